#include "orrery/token_dynamics.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <vector>

#include "orrery/error.h"
#include "orrery/load.h"
#include "sampling/token_sampler.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/far_device.h"
#include "support/paths.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TokenDynamics load(const std::string& name, at::Device device = at::kCPU) {
  const std::shared_ptr<const Component> component =
      load_component((testing::golden_folder() / name / "model").string(), "dynamics", {.device = device});
  return TokenDynamics(std::dynamic_pointer_cast<const TokenPredictor>(component));
}

at::Tensor prompt_of(const std::string& name, int64_t count) {
  return load_safetensors(testing::golden_folder() / name / "in.safetensors").at("input_ids").narrow(1, 0, count);
}

// The distribution that sample_tokens draws from, by the reference's formula in float64.
at::Tensor exact(const at::Tensor& logits, const TokenSampling& sampling) {
  at::Tensor scaled = logits.to(at::kDouble) / sampling.temperature;
  if (sampling.top_k > 0) {
    const at::Tensor least = std::get<0>(scaled.topk(sampling.top_k)).select(-1, -1).unsqueeze(-1);
    scaled = scaled.masked_fill(scaled.lt(least), -std::numeric_limits<double>::infinity());
  }
  auto [falling, ids] = scaled.softmax(-1).sort(-1, /*descending=*/true);
  falling = falling.masked_fill((falling.cumsum(-1) - falling).gt(sampling.top_p), 0);
  return at::zeros_like(falling).scatter(-1, ids, falling / falling.sum(-1, true));
}

// Pearson's statistic of many draws; with k possible tokens it exceeds k − 1 + 5 √(2 (k − 1)) about once in a million seeds.
void expect_distributed(const TokenSampling& sampling) {
  at::manual_seed(11);
  const at::Tensor logits = at::randn({1, 60}).mul_(1.5);
  const at::Tensor probabilities = exact(logits, sampling).squeeze(0);
  constexpr int64_t kDraws = 20000;
  at::Tensor counts = at::zeros({60}, at::kDouble);
  for (int64_t i = 0; i < kDraws; ++i) counts[sample_tokens(logits, sampling, i).item<int64_t>()] += 1;
  const at::Tensor possible = probabilities.gt(0);
  EXPECT_EQ(counts.masked_select(possible.logical_not()).sum().item<double>(), 0) << "a token that cannot follow was drawn";
  const at::Tensor wanted = probabilities.masked_select(possible) * kDraws, got = counts.masked_select(possible);
  const double statistic = ((got - wanted).square() / wanted).sum().item<double>();
  const double freedom = static_cast<double>(wanted.numel() - 1);
  EXPECT_LT(statistic, freedom + 5 * std::sqrt(2 * freedom)) << wanted.numel() << " tokens";
  EXPECT_GT(statistic, freedom - 5 * std::sqrt(2 * freedom)) << wanted.numel() << " tokens";
}

TEST(TokenSamplerTest, TopPIsDistributedAsTheReferenceSays) {
  expect_distributed({.top_p = 0.8, .seed = 5});
}
TEST(TokenSamplerTest, TemperatureIsToo) {
  expect_distributed({.temperature = 0.6, .top_p = 0.95, .seed = 6});
}
TEST(TokenSamplerTest, TopKIsToo) {
  expect_distributed({.temperature = 1.3, .top_k = 17, .seed = 7});
}
TEST(TokenSamplerTest, EveryTokenCanComeWithoutACut) {
  expect_distributed({.seed = 8});
}

TEST(TokenSamplerTest, GreedyTakesTheMostLikely) {
  at::manual_seed(1);
  const at::Tensor logits = at::randn({3, 50});
  EXPECT_TRUE(sample_tokens(logits, {.greedy = true}, 4).equal(logits.argmax(-1)));
  EXPECT_TRUE(sample_tokens(logits, {.top_k = 1}, 4).equal(logits.argmax(-1)));
}

TEST(TokenSamplerTest, ValuesOutOfRangeAreNamed) {
  const at::Tensor logits = at::zeros({1, 4});
  const auto says = [&](TokenSampling sampling) { return testing::error_of([&] { sample_tokens(logits, sampling, 0); }); };
  EXPECT_THAT(says({.temperature = 0}), AllOf(HasSubstr("temperature"), HasSubstr("above 0"), HasSubstr("--greedy")));
  EXPECT_THAT(says({.temperature = -1}), HasSubstr("temperature"));
  EXPECT_THAT(says({.temperature = std::numeric_limits<double>::quiet_NaN()}), HasSubstr("temperature"));
  EXPECT_THAT(says({.top_p = 0}), HasSubstr("top_p"));
  EXPECT_THAT(says({.top_p = 1.5}), HasSubstr("top_p"));
  EXPECT_THAT(says({.top_k = -1}), HasSubstr("top_k"));
  EXPECT_THAT([] { sample_tokens(at::full({1, 4}, std::nan("")), {}, 9); }, ThrowsMessage<Error>(HasSubstr("token 9")));
}

class TokenDynamicsTest : public ::testing::TestWithParam<const char*> {
 protected:
  TokenDynamics dynamics_ = load(GetParam());
  at::Tensor prompt_ = prompt_of(GetParam(), 7);
  Conditions conditions() const {
    const TensorMap given = load_safetensors(testing::golden_folder() / GetParam() / "in.safetensors");
    return given.contains("encoder_hidden_states") ? Conditions{.text = given.at("encoder_hidden_states")} : Conditions{};
  }
};

// Through the cache, a token at a time, the same tokens come as from reading the whole sequence each time.
TEST_P(TokenDynamicsTest, CachedGenerationEqualsUncached) {
  for (const TokenSampling& sampling : {TokenSampling{.greedy = true}, TokenSampling{.top_p = 0.9, .seed = 3}}) {
    TokenState state = dynamics_.begin(prompt_, conditions());
    const at::Tensor cached = dynamics_.advance(state, 9, sampling);
    at::Tensor tokens = prompt_;
    for (int64_t i = 0; i < 9; ++i) {
      const auto context = dynamics_.predictor().prepare(conditions());
      const at::Tensor logits = dynamics_.predictor().logits(tokens, *context, /*last_only=*/true).select(1, 0);
      tokens = at::cat({tokens, sample_tokens(logits, sampling, tokens.size(1)).unsqueeze(1)}, 1);
    }
    EXPECT_TRUE(cached.equal(tokens.narrow(1, 7, 9)));
    EXPECT_TRUE(state.tokens.equal(tokens));
  }
}

TEST_P(TokenDynamicsTest, AForkGoesOnAlone) {
  TokenState state = dynamics_.begin(prompt_, conditions());
  dynamics_.advance(state, 3, {.seed = 1});
  TokenState other = state.fork();
  const at::Tensor theirs = dynamics_.advance(other, 8, {.seed = 2}), mine = dynamics_.advance(state, 8, {.seed = 1});
  EXPECT_FALSE(theirs.equal(mine));
  TokenState replay = dynamics_.begin(prompt_, conditions());
  EXPECT_TRUE(dynamics_.advance(replay, 11, {.seed = 1}).narrow(1, 3, 8).equal(mine));
}

// Tokens stay on the device: the host waits once an advance, not once a token.
TEST_P(TokenDynamicsTest, AnotherDeviceIsNotWaitedForTokenByToken) {
  const TokenDynamics far = load(GetParam(), testing::far_device());
  const TokenSampling sampling{.top_p = 0.9, .seed = 3};
  TokenState state = far.begin(prompt_, conditions()), near = dynamics_.begin(prompt_, conditions());
  std::vector<int64_t> waits;
  for (const int64_t count : {1, 3, 8}) {  // the first goes on from the prompt's logits
    testing::take_far_streams();
    const at::Tensor tokens = far.advance(state, count, sampling);
    waits.push_back(testing::take_far_streams().host_waits);
    EXPECT_TRUE(tokens.cpu().equal(dynamics_.advance(near, count, sampling)));
  }
  EXPECT_EQ(waits[2], waits[1]);
}

TEST(FiniteLogits, OfAnotherDeviceAreLookedAtLate) {
  sampling::FiniteLogits finite;
  int64_t position = 5;
  for (const double logit : {0.0, 1.0, std::nan(""), 2.0})
    finite.add(at::full({2, 4}, logit).to(testing::far_device()), position++);
  EXPECT_THAT([&] { finite.finish(); }, ThrowsMessage<Error>(HasSubstr("token 7")));
  finite.finish();  // told once
  EXPECT_THROW(finite.add(at::full({1, 4}, std::nan("")), 3), Error);
}

INSTANTIATE_TEST_SUITE_P(Forms, TokenDynamicsTest, ::testing::Values("ar_4b_form", "ar_12b_form_yarn", "ar_5b_form"));

// A row of a batch is the sequence that it would be alone, and rows of one prompt part by the draws.
TEST(TokenDynamicsBatchTest, ParallelWorldsInOneBatch) {
  const TokenDynamics dynamics = load("ar_4b_form");
  const at::Tensor prompt = prompt_of("ar_4b_form", 7).narrow(0, 0, 1);
  const at::Tensor other = (prompt + 1).remainder(256);
  TokenState both = dynamics.begin(at::cat({prompt, other}), {});
  const at::Tensor rows = dynamics.advance(both, 12, {.greedy = true});
  for (int64_t row = 0; row < 2; ++row) {
    TokenState alone = dynamics.begin(row ? other : prompt, {});
    EXPECT_TRUE(dynamics.advance(alone, 12, {.greedy = true}).equal(rows.narrow(0, row, 1))) << row;
  }
  TokenState worlds = dynamics.begin(prompt.repeat({4, 1}), {});
  const at::Tensor futures = dynamics.advance(worlds, 12, {.seed = 4});
  TokenState read_once = dynamics.begin(prompt, {}).select(at::zeros({4}, at::kLong));
  EXPECT_TRUE(dynamics.advance(read_once, 12, {.seed = 4}).equal(futures));
  for (int64_t row = 1; row < 4; ++row) EXPECT_FALSE(futures[row].equal(futures[0])) << row;
}

// Beams: rows that are chosen again look at their own past and text. Logits are compared, since a tiny network's most likely
// tokens hardly depend on the past.
TEST_P(TokenDynamicsTest, ChosenRowsGoOnAsTheyWouldAlone) {
  const at::Tensor prompt = prompt_.size(0) > 1 ? prompt_ : at::cat({prompt_, (prompt_ + 1).remainder(60)});
  TokenState two = dynamics_.begin(prompt, conditions());
  dynamics_.advance(two, 2, {.seed = 1});
  const at::Tensor order = at::tensor({1, 1, 0}, at::kLong);
  TokenState chosen = two.select(order);
  EXPECT_TRUE(chosen.tokens.equal(two.tokens.index_select(0, order)));
  const auto next = [&](const TokenState& state) {
    return dynamics_.predictor().logits(state.tokens.slice(1, -1), *state.context, /*last_only=*/true).select(1, 0);
  };
  const at::Tensor theirs = next(chosen), mine = next(two);
  EXPECT_TRUE(testing::is_close(theirs, mine.index_select(0, order), testing::kSameMath));
  EXPECT_FALSE(testing::is_close(theirs, mine.index_select(0, order.flip(0)), testing::kSameMath));
  EXPECT_THAT(testing::error_of([&] { two.select(at::tensor({2}, at::kLong)); }), HasSubstr("0 … 1"));
}

TEST(TokenDynamicsErrorTest, MoreTokensThanThereIsRoomForAreRefused) {
  const TokenDynamics dynamics = load("ar_4b_form");
  TokenState state = dynamics.begin(at::zeros({1, 60}, at::kLong), {});
  EXPECT_THAT([&] { dynamics.advance(state, 5); }, ThrowsMessage<Error>(HasSubstr("at most 4 more of 64")));
  EXPECT_THAT([&] { dynamics.begin(at::zeros({1, 65}, at::kLong), {}); }, ThrowsMessage<Error>(HasSubstr("of 64")));
  EXPECT_THAT([&] { dynamics.begin(at::zeros({1, 0}, at::kLong), {}); }, ThrowsMessage<Error>(HasSubstr("prompt")));
}

TEST(TokenDynamicsErrorTest, CancellingStopsBetweenTokens) {
  const TokenDynamics dynamics = load("ar_4b_form");
  TokenState state = dynamics.begin(at::zeros({1, 4}, at::kLong), {});
  WorkOptions work;
  work.on_progress = [&](const Progress& progress) {
    if (progress.done == 3) work.cancel.cancel();
  };
  EXPECT_THROW(dynamics.advance(state, 9, {}, work), Error);
  EXPECT_EQ(state.tokens.size(1), 7);
}

}  // namespace
}  // namespace orrery

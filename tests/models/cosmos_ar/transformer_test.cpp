#include "models/cosmos_ar/transformer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "orrery/error.h"
#include "orrery/load.h"
#include "orrery/token_dynamics.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/random_weights.h"

namespace orrery::models {
namespace {

using ::orrery::testing::golden_folder;
using ::orrery::testing::is_close;
using ::orrery::testing::kSameMath;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
namespace testing = ::orrery::testing;

std::unique_ptr<TokenPredictor> load(const std::string& name) {
  auto component = load_component((golden_folder() / name / "model").string(), "dynamics");
  return std::unique_ptr<TokenPredictor>(dynamic_cast<TokenPredictor*>(component.release()));
}

TensorMap inputs(const std::string& name) {
  return load_safetensors(golden_folder() / name / "in.safetensors");
}

class CosmosArTest : public ::testing::TestWithParam<const char*> {};

TEST_P(CosmosArTest, TokensThroughTheCacheEqualTheWholeSequence) {
  const auto model = load(GetParam());
  const auto given = inputs(GetParam());
  const auto whole = model->call("logits", given, {}).at("logits");
  for (int64_t step : {3, 16}) {
    EXPECT_TRUE(is_close(model->call("logits", given, {.streaming = step}).at("logits"), whole, kSameMath)) << step;
  }
}

TEST_P(CosmosArTest, AForkDoesNotSeeTheOtherFuture) {
  const auto model = load(GetParam());
  const auto given = inputs(GetParam());
  const auto tokens = given.at("input_ids");
  Conditions conditions;
  if (given.contains("encoder_hidden_states")) conditions.text = given.at("encoder_hidden_states");
  const auto context = model->prepare(conditions);
  model->logits(tokens.narrow(1, 0, 9), *context);
  const auto other = context->fork();
  model->logits((tokens.narrow(1, 9, 4) + 1).remainder(100), *other);
  EXPECT_EQ(context->length(), 9);
  const auto mine = model->logits(tokens.narrow(1, 9, 4), *context);
  const auto last = model->logits(tokens.narrow(1, 13, 4), *context, /*last_only=*/true);
  const auto whole = model->call("logits", given, {}).at("logits");
  EXPECT_TRUE(is_close(mine, whole.narrow(1, 9, 4), kSameMath));
  EXPECT_TRUE(is_close(last, whole.narrow(1, 16, 1), kSameMath));
}

INSTANTIATE_TEST_SUITE_P(Forms, CosmosArTest, ::testing::Values("ar_4b_form", "ar_12b_form_yarn", "ar_5b_form"));

// Pages fill, and a fork in the middle of one must copy it.
TEST(KvCacheTest, ManyPagesAttendAsOneTensorDoes) {
  at::manual_seed(3);
  const int64_t count = 2 * KvCache::kPage + 37;
  const auto q = at::randn({2, count, 6, 8}), k = at::randn({2, count, 3, 8}), v = at::randn({2, count, 3, 8});
  KvCache cache;
  for (int64_t begin = 0, step; begin < count; begin += step) {
    step = std::min<int64_t>(101, count - begin);
    cache.append(k.narrow(1, begin, step), v.narrow(1, begin, step));
    KvCache fork = cache;
    fork.append(at::zeros({2, 5, 3, 8}), at::zeros({2, 5, 3, 8}));
    const auto heads = [](const at::Tensor& x) { return x.transpose(1, 2); };
    const auto mask = at::ones({count, count}, at::kBool).tril().narrow(0, begin, step).narrow(1, 0, begin + step);
    const auto expected = at::scaled_dot_product_attention(
        heads(q.narrow(1, begin, step)), heads(k.narrow(1, 0, begin + step)).repeat_interleave(2, 1),
        heads(v.narrow(1, 0, begin + step)).repeat_interleave(2, 1), mask);
    EXPECT_TRUE(is_close(cache.attend(q.narrow(1, begin, step)), heads(expected).flatten(2), kSameMath));
  }
  EXPECT_EQ(cache.length(), count);
}

std::vector<const void*> places(const KvCache& cache) {
  std::vector<const void*> pages;
  for (const at::Tensor& page : cache.key_pages()) pages.push_back(page.const_data_ptr());
  return pages;
}

TEST(KvCacheTest, GrowingMovesNothingAndAForkSharesAllButThePageItWrites) {
  const auto some = [](int64_t count, int64_t batch = 1) { return at::randn({batch, count, 2, 4}); };
  KvCache cache;
  cache.append(some(2 * KvCache::kPage + 9), some(2 * KvCache::kPage + 9));
  const auto before = places(cache);
  ASSERT_EQ(before.size(), 3u);
  cache.append(some(KvCache::kPage), some(KvCache::kPage));
  auto grown = places(cache);
  EXPECT_EQ(grown.size(), 4u);
  grown.resize(3);
  EXPECT_EQ(grown, before);

  KvCache fork = cache;
  EXPECT_EQ(places(fork), places(cache)) << "a fork that writes nothing costs nothing";
  fork.append(some(1), some(1));
  const auto mine = places(cache), theirs = places(fork);
  for (size_t page = 0; page < 3; ++page) EXPECT_EQ(theirs[page], mine[page]) << page;
  EXPECT_NE(theirs[3], mine[3]);
}

TEST(KvCacheTest, RowsOfABatchOfOneShareItsFullPages) {
  at::manual_seed(4);
  const int64_t count = KvCache::kPage + 5;
  const auto k = at::randn({1, count, 2, 4}), v = at::randn({1, count, 2, 4}), q = at::randn({1, 1, 2, 4});
  KvCache one;
  one.append(k, v);
  const at::Tensor alone = one.attend(q);
  KvCache three = one.select(at::zeros({3}, at::kLong));
  EXPECT_EQ(places(three)[0], places(one)[0]);
  EXPECT_NE(places(three)[1], places(one)[1]);
  EXPECT_TRUE(is_close(three.attend(q.expand({3, 1, 2, 4})), alone.expand({3, 1, 8}), kSameMath));
  three.append(at::ones({3, 1, 2, 4}), at::ones({3, 1, 2, 4}));
  EXPECT_TRUE(one.attend(q).equal(alone)) << "what the others write is theirs";
}

// A prompt of several blocks reads as its tokens one at a time do, and to its last logits through TokenDynamics too.
TEST(CosmosArPrefillTest, BlocksOfALongPromptEqualTheTokensAlone) {
  at::manual_seed(6);
  const Config config = Config::parse(
      R"({"_class_name": "Transformer", "dim": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8,
          "ffn_hidden_size": 24, "vocab_size": 60, "use_qk_normalization": true, "rope_dim": "3D",
          "video_latent_shape": [3, 12, 16], "max_seq_len": 576})",
      "config.json");
  const auto model = std::make_shared<const CosmosArTransformer>(
      config, Weights::from(testing::random_weights("Transformer", config), "random"));
  const at::Tensor tokens = at::randint(60, {2, 547}, at::kLong);
  const TensorMap given{{"input_ids", tokens}};
  const at::Tensor whole = model->call("logits", given, {}).at("logits");
  EXPECT_TRUE(is_close(model->call("logits", given, {.streaming = 1}).at("logits"), whole, kSameMath));
  const TokenState state = TokenDynamics(model).begin(tokens);
  EXPECT_EQ(state.context->length(), 547);
  EXPECT_TRUE(is_close(state.logits, whole.select(1, 546), kSameMath));
}

TEST(CosmosArErrorTest, TooManyTokensAndUnknownOnesAreRefused) {
  const auto model = load("ar_4b_form");
  EXPECT_EQ(model->capacity(), 64);
  const auto context = model->prepare({});
  model->logits(at::zeros({1, 60}, at::kLong), *context);
  EXPECT_THAT(
      [&] {
        model->logits(at::zeros({1, 5}, at::kLong), *context);
      },
      ThrowsMessage<Error>(HasSubstr("at most 4 more tokens of 64, got 5")));
  EXPECT_THAT(
      [&] {
        model->logits(at::full({1, 1}, 256, at::kLong), *context);
      },
      ThrowsMessage<Error>(HasSubstr("0 … 255")));
}

TEST(CosmosArErrorTest, TextIsNeededOrRefused) {
  EXPECT_THAT([] { load("ar_5b_form")->prepare({}); }, ThrowsMessage<Error>(HasSubstr("is missing")));
  EXPECT_THAT(
      [] {
        load("ar_4b_form")->prepare({.text = at::zeros({1, 2, 64})});
      },
      ThrowsMessage<Error>(HasSubstr("takes no text")));
  EXPECT_THAT(
      [] {
        load("ar_5b_form")->prepare({.text = at::zeros({1, 2, 63})});
      },
      ThrowsMessage<Error>(HasSubstr("[B, L, 64]")));
}

// The released checkpoints hold no config: sizes are read off the shapes, the rest follows from the number of layers.
TEST(CosmosArDescribeTest, ReleasedModelsAreTold) {
  const auto like = [](int64_t layers, int64_t dim, bool text) {
    TensorMap tensors{{"tok_embeddings.weight", at::zeros({64, dim})}, {"output.weight", at::zeros({64, dim})}};
    for (int64_t i = 0; i < layers; ++i) {
      const auto layer = "layers." + std::to_string(i) + ".";
      tensors[layer + "attention.wq.weight"] = at::zeros({64, dim});
      if (text) tensors[layer + "cross_attention.wk.weight"] = at::zeros({16, 24});
    }
    tensors["layers.0.attention.wk.weight"] = at::zeros({16, dim});
    tensors["layers.0.attention.q_norm.weight"] = at::zeros({8});
    tensors["layers.0.feed_forward.w1.weight"] = at::zeros({40, dim});
    return describe_cosmos_ar(Weights::from(tensors, "model.pt"));
  };
  const auto base = CosmosArConfig::from(*like(16, 32, false));
  EXPECT_EQ(base.n_heads, 8);
  EXPECT_EQ(base.n_kv_heads, 2);
  EXPECT_FALSE(base.apply_yarn || base.insert_cross_attn || base.apply_abs_pos_emb);
  EXPECT_EQ(base.video_latent_shape, (std::vector<int64_t>{5, 40, 64}));
  const auto large = CosmosArConfig::from(*like(40, 48, true));
  EXPECT_TRUE(large.apply_yarn && large.insert_cross_attn && large.apply_abs_pos_emb && large.text_to_video);
  EXPECT_EQ(large.head_dim, 8);
  EXPECT_EQ(large.context_dim, 24);
  EXPECT_FALSE(like(17, 32, false));
}

}  // namespace
}  // namespace orrery::models

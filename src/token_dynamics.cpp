#include "orrery/token_dynamics.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>

#include "orrery/error.h"
#include "placement.h"
#include "sampling/token_sampler.h"

namespace orrery {
namespace {

constexpr int64_t kBlock = 256;  // prompt tokens between two looks at the cancellation token

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// While it lives a context may be told that its next tokens were drawn; what comes after is anybody's again.
struct Drawn {
  explicit Drawn(TokenPredictor::Context& of) : context(of) {}
  ~Drawn() { context.drawn = false; }
  Drawn(const Drawn&) = delete;
  TokenPredictor::Context& context;
};

}  // namespace

at::Tensor sample_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position) {
  const c10::InferenceMode inference;
  sampling.check();
  return sampling::sample_tokens(logits, sampling, position);
}

TokenState TokenState::fork() const {
  return {context->fork(), tokens, logits};
}

TokenState TokenState::select(const at::Tensor& rows) const {
  const c10::InferenceMode inference;
  const int64_t batch = tokens.size(0);
  if (rows.dim() != 1 || rows.numel() == 0 || rows.scalar_type() != at::kLong || rows.min().item<int64_t>() < 0 ||
      rows.max().item<int64_t>() >= batch)
    throw Error(ErrorKind::kArgument, {.place = "rows",
                                       .what = "are not those of the batch",
                                       .expected = "int64 [B'] of 0 … " + std::to_string(batch - 1)});
  const at::Tensor there = rows.to(tokens.device());
  return {context->select(there), tokens.index_select(0, there),
          logits.defined() ? logits.index_select(0, there) : at::Tensor()};
}

TokenDynamics::TokenDynamics(std::shared_ptr<const TokenPredictor> predictor) : predictor_(std::move(predictor)) {
  if (!predictor_)
    throw Error(ErrorKind::kArgument, {.place = "TokenDynamics", .what = "needs a predictor", .got = "nothing"});
}

TokenState TokenDynamics::begin(const at::Tensor& prompt, const Conditions& conditions, const WorkOptions& work) const {
  const c10::InferenceMode inference;
  if (prompt.dim() != 2 || prompt.numel() == 0 || at::isFloatingType(prompt.scalar_type()))
    throw Error(ErrorKind::kArgument,
                {.place = "prompt", .what = "has the wrong shape or dtype", .expected = "int64 [B, n] with n above 0"});
  const at::Device device = predictor_->device();
  TokenState state{predictor_->prepare(placed(conditions, device)), prompt.to(device, at::kLong), {}};
  const int64_t count = prompt.size(1);
  for (int64_t at = 0; at < count; at += kBlock) {
    work.cancel.check("prompt");
    const int64_t step = std::min(kBlock, count - at);
    state.logits = predictor_->logits(state.tokens.narrow(1, at, step), *state.context, /*last_only=*/true).select(1, 0);
    if (work.on_progress) work.on_progress({"prompt", at + step, count});
  }
  return state;
}

at::Tensor TokenDynamics::advance(TokenState& state, int64_t count, const TokenSampling& sampling,
                                  const WorkOptions& work) const {
  const c10::InferenceMode inference;
  sampling.check();
  const int64_t room = predictor_->capacity() - state.tokens.size(1);
  if (count < 0 || count > room)
    throw Error(ErrorKind::kArgument,
                {.place = "new tokens",
                 .what = "do not fit into the model's sequence",
                 .expected = "at most " + std::to_string(room) + " more of " + std::to_string(predictor_->capacity()),
                 .got = std::to_string(count)});
  const auto start = std::chrono::steady_clock::now();
  const int64_t before = state.tokens.size(1);
  const Drawn drawn(*state.context);
  sampling::FiniteLogits finite;
  for (int64_t i = 0; i < count; ++i) {
    work.cancel.check("tokens");
    if (!state.logits.defined())
      state.logits = predictor_->logits(state.tokens.slice(1, -1), *state.context, /*last_only=*/true).select(1, 0);
    finite.add(state.logits, before + i);
    const at::Tensor next = sampling::draw_tokens(state.logits, sampling, before + i).unsqueeze(1);
    state.tokens = at::cat({state.tokens, next}, 1);
    state.logits.reset();
    state.context->drawn = true;
    if (!work.on_progress) continue;
    const double each = seconds_since(start) / static_cast<double>(i + 1);
    work.on_progress({"tokens", i + 1, count, each * static_cast<double>(count - i - 1)});
  }
  finite.finish();
  return state.tokens.narrow(1, before, count);
}

}  // namespace orrery

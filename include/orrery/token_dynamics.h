#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "orrery/conditions.h"
#include "orrery/export.h"
#include "orrery/progress.h"
#include "orrery/token_predictor.h"

namespace orrery {

/// How the next token is chosen from the logits.
struct ORRERY_API TokenSampling {
  double temperature = 1;  ///< divides the logits, above 0
  double top_p = 1;        ///< only the most likely tokens that have this probability together, in (0, 1]
  int64_t top_k = 0;       ///< only so many of the most likely tokens; 0: all
  bool greedy = false;     ///< always the most likely token; the rest does not count then
  uint64_t seed = 0;       ///< of the draws, each of which depends on (seed, row, position) and on nothing else

  /// Throws Error(kArgument) naming the value that is out of range, and the range.
  void check() const;
};

/// A batch of futures being written, one a row: move-only, one thread at a time. A fork shares the memory of the past and
/// draws the same future unless it is given another seed.
struct ORRERY_API TokenState {
  std::unique_ptr<TokenPredictor::Context> context;
  at::Tensor tokens;  ///< int64 [B,n], all so far
  at::Tensor logits;  ///< float [B,V] of what follows them; undefined while the network has not seen the last one

  /// Other futures of the same past.
  TokenState fork() const;
  /// Rows int64 [B'] of the batch as a batch of their own, in that order and as often as they are named: {0, 0, 0} of a
  /// prompt read once are three parallel worlds, {2, 2, 0} of three beams the two that go on. Throws Error(kArgument) on a
  /// row that is not there.
  TokenState select(const at::Tensor& rows) const;
};

/// The future as discrete tokens, one after another: a predictor and the loop around it. Const, shareable between threads.
class ORRERY_API TokenDynamics {
 public:
  explicit TokenDynamics(std::shared_ptr<const TokenPredictor> predictor);
  const TokenPredictor& predictor() const { return *predictor_; }

  /// Reads a prompt int64 [B,n], n above 0, in blocks. The model's own begin token is the caller's to put first.
  TokenState begin(const at::Tensor& prompt, const Conditions& conditions = {}, const WorkOptions& work = {}) const;
  /// Appends `count` tokens to each row and returns them, int64 [B,count]. Throws Error(kArgument) on a sampling out of
  /// range or more tokens than there is room for, Error(kWeights) when logits are not finite, Error(kCancelled).
  at::Tensor advance(TokenState& state, int64_t count, const TokenSampling& sampling = {},
                     const WorkOptions& work = {}) const;

 private:
  std::shared_ptr<const TokenPredictor> predictor_;
};

/// One token for each row of logits float [B,V], int64 [B]: softmax(logits / temperature), cut to top-k, then to top-p,
/// renormalised. A token is kept where those before it have at most `top_p` together, as in nvidia-cosmos/cosmos-predict1's
/// sample_top_p@4ed35fa. `position` is that of the new token. Throws as TokenDynamics::advance does.
ORRERY_API at::Tensor sample_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position);

}  // namespace orrery

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "orrery/export.h"

namespace orrery {

/// What all passes of one generation with a step cache share; one thread at a time.
struct StepCacheRun {
  double threshold = 0;   ///< see StepCache; finite, not negative
  int64_t window = 0;     ///< of a long future: nothing is remembered from one window to the next
  int64_t passes = 0;     ///< looks of the networks so far
  int64_t shortened = 0;  ///< those of them that left out all blocks but the first
};

/// First-block cache of one kind of pass, the prompt's or the negative prompt's. Lossy: where the first block changes its
/// input nearly as it did at the last look that ran in full, what the other blocks add is taken from that look. "Nearly":
/// the mean absolute difference of the two changes is at most `threshold` times the mean absolute value of the remembered
/// one. Source: diffusers 0.42.1 hooks/first_block_cache.py (FirstBlockCacheConfig).
class ORRERY_API StepCache {
 public:
  /// `run` must not be null.
  explicit StepCache(std::shared_ptr<StepCacheRun> run) : run_(std::move(run)) {}

  /// Called behind the first block with its input and output, float [B,N,D]. True: the others are left out, and `hidden` is
  /// now what stands in the place of the last one's output. False: keep() must follow.
  bool shortens(const at::Tensor& before, at::Tensor& hidden);
  /// Remembers what the blocks behind the first made: the last one's output [B,N,D].
  void keep(const at::Tensor& last);

 private:
  std::shared_ptr<StepCacheRun> run_;
  int64_t window_ = 0;
  at::Tensor first_change_, other_changes_;  // of the last look in full; undefined: there was none
  at::Tensor first_output_;                  // of the look that is under way
};

}  // namespace orrery

#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "models/wan/causal_wan_model.h"

namespace orrery::models {

/// Makes one block of latent frames after the other in the few steps that the network was distilled to.
/// Source: guandeh17/Self-Forcing pipeline/causal_inference.py, utils/scheduler.py (FlowMatchScheduler) at 33593df.
class CausalWanStream {
 public:
  explicit CausalWanStream(std::shared_ptr<const CausalWanModel> model);

  /// Unit noise [1,C,n,h,w] for the block: draw 0 is what it starts from, draw k is added before step k.
  using Draws = std::function<at::Tensor(int64_t draw)>;

  /// The next block, float [1,C,n,h,w] in dynamics space, which `memory` then remembers. `beside` [1,C',n,h,w] (undefined:
  /// none) is put behind the noisy channels. `finished` (empty: nobody) is told of it before its keys are made.
  at::Tensor next(const WanContext& context, const ActionWindows& actions, const at::Tensor& beside, const Draws& noise,
                  CausalWanMemory& memory, const std::function<void(const at::Tensor& block)>& finished = {}) const;

  const CausalWanModel& model() const { return *model_; }
  int64_t steps() const { return static_cast<int64_t>(sigmas_.size()); }

 private:
  std::shared_ptr<const CausalWanModel> model_;
  std::vector<float> sigmas_;  // of each step; its noise time is a thousand times that
};

}  // namespace orrery::models

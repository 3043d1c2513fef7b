#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace orrery::layers {

/// The work of a steady step on a device, recorded once and started as one graph from then on, where LibTorch has graphs for
/// the device (CUDA): no launch but one, no allocation and no wait inside. Elsewhere it is the work, called.
/// A graph is the kernels with the arguments that they were recorded with, pointers and numbers. So the work may depend on
/// its inputs alone, and on what never changes (weights): a number of the host's that changes from step to step (a frame's
/// number, a seed) must be one of the inputs, or be used before. May be used by several threads; they take turns.
/// ORRERY_CUDA_GRAPHS=off in the environment keeps it from recording.
class SteadyGraph {
 public:
  using Tensors = std::vector<at::Tensor>;
  using Work = std::function<Tensors(const Tensors& inputs)>;

  /// `name` is for the log. The work is called on `device` and gives tensors there.
  SteadyGraph(std::string name, at::Device device, Work work);
  ~SteadyGraph();

  /// work(inputs). Inputs may lie with the processor: they are brought to the device without a wait; the results are the
  /// caller's own. The work is recorded when it is asked for twice running with inputs of the same shapes and dtypes (the
  /// first time LibTorch prepares what it needs for them), and anew so for others; never if this is no `steady` step, one
  /// whose like will come again. If it cannot be recorded, that is logged once, and it is called from then on. Throws what
  /// the work throws when it is called.
  Tensors operator()(const Tensors& inputs, bool steady = true) const;

  /// What was done so far.
  struct Counts {
    int64_t recorded = 0, replayed = 0, called = 0;
  };
  Counts counts() const;

 private:
  struct Records;
  std::string name_;
  at::Device device_;
  Work work_;
  std::unique_ptr<Records> records_;  // never null
};

}  // namespace orrery::layers

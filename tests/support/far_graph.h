#pragma once

#include <ATen/core/GraphImplInterface.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace orrery::testing {

/// Graphs of the far device, which mean what CUDA's mean: what is asked of the device while one records is done again at
/// each replay, on the same memory and with the numbers of then. What a recording computed is thrown away (NaN) when it
/// ends; the memory that it took stays its own; and it refuses what waits for the host or takes the host's numbers (bytes
/// that cross).
class FarGraph final : public at::GraphImplInterface {
 public:
  /// How the device undoes what it allocated: gives memory back, and makes its contents unusable.
  struct Memory {
    void (*release)(void* far);
    void (*spoil)(void* far);
  };
  explicit FarGraph(Memory memory) : memory_(memory) {}
  ~FarGraph() override;

  void capture_begin(at::MempoolId_t, at::GraphCaptureMode) override;
  void capture_end() override;
  void instantiate() override {}
  void replay() override;
  void reset() override;
  at::MempoolId_t pool() const override { return {0, 0}; }
  void enable_debug_mode() override {}
  void debug_dump(const std::string&) override {}

  /// What this thread records into now; none: null.
  static FarGraph* recording();
  /// Something that the device did, to be done again.
  void add(std::function<void()> again) { done_.push_back(std::move(again)); }
  /// Memory that was taken, or given back, while it recorded.
  void took(void* far) { taken_.push_back(far); }
  void gave_back(void* far) { given_back_.push_back(far); }

 private:
  Memory memory_;
  std::vector<std::function<void()>> done_;
  std::vector<void*> taken_, given_back_;
};

}  // namespace orrery::testing

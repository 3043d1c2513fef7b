#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <initializer_list>
#include <vector>

namespace orrery::ops {

/// Shows an operation of ours to LibTorch's observers (profilers, and `orrery bench`, which counts arithmetic) as LibTorch
/// shows its own. Costs nothing while nobody observes.
class Counted {
 public:
  /// `name` must outlive the observers: a literal.
  Counted(const char* name, std::initializer_list<at::Tensor> inputs) : guard_(at::RecordScope::FUNCTION) {
    if (!guard_.isActive()) return;
    values_.assign(inputs.begin(), inputs.end());
    guard_.before(name, c10::ArrayRef<const c10::IValue>(values_.data(), values_.size()));
  }
  /// Notes the result and hands it on.
  at::Tensor done(at::Tensor output) const {
    if (guard_.isActive()) guard_.setOutputs(std::vector<c10::IValue>{output});
    return output;
  }

 private:
  mutable at::RecordFunction guard_;
  std::vector<c10::IValue> values_;
};

}  // namespace orrery::ops

#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/config.h"
#include "orrery/tokenizer.h"
#include "orrery/weights.h"

namespace orrery::layers {

/// The form in memory that LoadOptions asks the linear layers of a component for; a component that reads this must follow
/// it.
WeightForm weight_form(const Config& config);

/// y = x Wᵀ + b. The weight stays in the dtype and the memory of its file; a half-precision weight is expanded to the
/// input's dtype a block of rows at a time, where the processor's cache holds it, so it costs neither memory nor a slow bf16
/// product; for a few rows of input in registers.
class Linear {
 public:
  Linear() = default;
  /// Reads "weight" [out, in] and, where `bias`, "bias" [out], and keeps the weight in that form; see resident().
  Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool bias,
         WeightForm form = WeightForm::kStored);

  /// float [..., in] → [..., out]
  at::Tensor operator()(const at::Tensor& input) const;

  bool defined() const { return weight_.defined(); }

  /// The same product with the weight in another form in memory, made now. An int8 weight is symmetric, with one scale an
  /// output; a float8 one too, and one that is stored as float8 (e4m3) stays as it is, with its own scale where it has one.
  Linear resident(WeightForm form) const;
  /// The same product with weights of float32 in memory: for small networks that are run often.
  Linear widened() const;

 private:
  at::Tensor weight_;  // [out, in], as stored or in the form that was asked for
  at::Tensor scales_;  // float32 [out] of an int8 weight, of a float8 one that has some; else undefined
  at::Tensor bias_;    // [out], as stored, or undefined
};

}  // namespace orrery::layers

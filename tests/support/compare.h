#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

namespace orrery::testing {

/// What counts as equal, in one place: relative L2 (norm of the difference over norm of the expected).
struct Tolerance {
  double relative_l2;
};
inline constexpr Tolerance kExact{0};  ///< bit for bit
/// The same sums in another order (chunked against whole): the rounding of some forty layers of float32, 6e-8 each, at its
/// worst all in one direction; 2.2e-6 was the most that any network showed.
inline constexpr Tolerance kSameMath{4e-6};
inline constexpr Tolerance kComponentParity{1e-4};   ///< one component in float32 against the reference
inline constexpr Tolerance kPipelineParity{2e-3};    ///< a whole sampling loop in float32 against the reference
inline constexpr Tolerance kBFloat16Rounding{4e-3};  ///< results rounded to bfloat16, whose last bit is worth 2⁻⁸

// What is lossy and asked for by name, against the exact result: one look of a network.
inline constexpr Tolerance kInt8Weights{3e-2};    ///< what the contract allows; inputs are rounded to 8 bits too
inline constexpr Tolerance kFloat8Weights{5e-2};  ///< e4m3 has four significant bits: each weight is off by up to 1/16
inline constexpr Tolerance kInt8Attention{1e-2};  ///< products of queries and keys of 8 bits
/// Colours by formula against FFmpeg's tables of whole numbers: a level or two of 255, and chroma that it smooths.
inline constexpr Tolerance kOtherColourTables{1e-2};

/// ‖actual − expected‖ / ‖expected‖ in float64; infinite when the shapes differ or anything is not finite.
double relative_l2(const at::Tensor& actual, const at::Tensor& expected);

/// EXPECT_TRUE(is_close(...)): shapes and dtype kind equal, relative L2 within the tolerance; integers: at most 0.1 %
/// differ.
::testing::AssertionResult is_close(const at::Tensor& actual, const at::Tensor& expected, Tolerance tolerance);

}  // namespace orrery::testing

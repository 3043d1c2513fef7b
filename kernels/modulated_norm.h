#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// Rows of numbers, one scale and shift for each group of successive rows, float32 [groups, width]. Either pointer may be
/// null. The addends, of the same shape, are added before use: what AdaLN-LoRA's shared branch gives.
struct Modulation {
  const float* values = nullptr;
  const float* addend = nullptr;
  int64_t stride = 0;         ///< elements between groups of `values`
  int64_t addend_stride = 0;  ///< the same of `addend`
};

/// out[r] = norm(x[r]) · weight · (1 + scale[g]) + bias + shift[g], g = r / rows_per_group: the norms of a diffusion
/// transformer; and of a decoder, with a SiLU of the result. Computed in float32.
struct ModulatedNorm {
  Number type = Number::kFloat32;  ///< of x and out: float32, bfloat16 or float16
  bool centred = false;            ///< LayerNorm (the mean is taken off); else RMSNorm
  bool silu = false;
  float epsilon = 1e-6f;
  int64_t rows = 0, width = 0, rows_per_group = 1;
  const void* x = nullptr;  ///< [rows, width]
  void* out = nullptr;      ///< [rows, width], may be x
  int64_t x_stride = 0, out_stride = 0;
  const float* weight = nullptr;  ///< [width] or null
  const float* bias = nullptr;    ///< [width] or null
  Modulation scale, shift;
};

/// out[r] = residual[r] + gate[g] · x[r]
struct GatedResidual {
  Number type = Number::kFloat32;  ///< of x, residual and out
  int64_t rows = 0, width = 0, rows_per_group = 1;
  const void* x = nullptr;
  const void* residual = nullptr;
  void* out = nullptr;  ///< may be residual
  int64_t x_stride = 0, residual_stride = 0, out_stride = 0;
  Modulation gate;
};

/// Rows [begin, end) on the CPU.
void modulated_norm_cpu(const ModulatedNorm& p, int64_t begin, int64_t end);
void gated_residual_cpu(const GatedResidual& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_modulated_norm(const orrery::kernels::ModulatedNorm* p, void* stream);
extern "C" int orrery_cuda_gated_residual(const orrery::kernels::GatedResidual* p, void* stream);

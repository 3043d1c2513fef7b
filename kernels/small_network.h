#pragma once

#include <cstddef>
#include <cstdint>

// What a network of a few million parameters spends its time on. Its weights and activations lie in the processor's cache,
// so there is no blocking for memory here; the time goes into arithmetic, and into nothing else.
namespace orrery::kernels {

/// Weights are packed by columns of this many: [columns / kColumns][depth][kColumns], the last block padded with zeros.
constexpr int64_t kColumns = 32;

/// What becomes of a product.
enum class Then { kStore, kAdd, kAddGated };

/// out[r][n] = then(bias[n] + Σ_tap Σ_k in[rows[r] + taps[tap] + k] · weight[tap][k][n]): a linear layer (one tap), or a
/// convolution whose input has zeros around it, channels last (a tap for each place of its kernel).
struct RowProduct {
  const float* in = nullptr;
  const int64_t* rows = nullptr;      ///< where each row begins in `in`
  const int64_t* out_rows = nullptr;  ///< and in `out`
  int64_t row_count = 0;
  const int64_t* taps = nullptr;
  int64_t tap_count = 1;
  int64_t depth = 0;                      ///< K, of one tap
  const float* weight = nullptr;          ///< packed, or
  const uint16_t* half_weight = nullptr;  ///< packed as float16, which halves what is read
  const float* bias = nullptr;            ///< padded like the weight
  int64_t columns = 0;
  const float* gate = nullptr;  ///< [columns], of kAddGated
  Then then = Then::kStore;
  float* out = nullptr;
};
/// Column blocks [begin, end) of kColumns.
void row_product(const RowProduct& product, int64_t begin, int64_t end);
void row_product_plain(const RowProduct& product, int64_t begin, int64_t end);

/// y = (x − mean) / sqrt(var + eps) · (1 + scale) + shift over each row of `width`.
void modulated_norm(const float* x, const float* shift, const float* scale, int64_t rows, int64_t width, float eps,
                    float* y);

/// softmax(q·keys · factor) · values, head by head; one query, its heads one after the other. `scores` has room for `count`,
/// rounded up to 16.
void attend(const float* query, const float* const* keys, const float* const* values, int64_t count, int64_t heads,
            int64_t head_dim, float factor, float* scores, float* out);

/// silu, in place.
void silu(float* x, int64_t count);

/// A picture with channels last, as group_norm_silu() takes it.
struct NormedPicture {
  int64_t height, width, channels, groups;
  float eps;
  int64_t border;  ///< of y, in pixels
};
/// silu(group_norm(x)). x holds its pixels without a border; that of y is left alone. `sums` has room for 4·channels.
void group_norm_silu(const NormedPicture& picture, const float* x, const float* weight, const float* bias, float* sums,
                     float* y);

}  // namespace orrery::kernels

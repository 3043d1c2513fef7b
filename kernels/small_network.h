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

/// The same of every row with all: rows [count][3 · heads · head_dim], each of a query, a key and a value.
struct SelfAttention {
  const float* rows;
  int64_t count, heads, head_dim;
  float factor;
};
/// Keys are taken as many at a time as a vector has numbers.
constexpr int64_t padded_keys(int64_t count) {
  return (count + 15) / 16 * 16;
}
/// out [count][heads · head_dim]; `scratch` has room for (head_dim + 1) · padded_keys(count).
void self_attend(const SelfAttention& attention, float* scratch, float* out);

/// silu, in place.
void silu(float* x, int64_t count);

/// What happens to each channel of a row: · scale + shift; nothing where they are null.
struct Affine {
  const float* scale = nullptr;
  const float* shift = nullptr;
};

/// What a group norm makes of each channel of x [pixels, channels]: `scale` and `shift`. `sums` has room for 2·channels.
struct GroupNorm {
  int64_t pixels, channels, groups;
  float eps;
  const float *weight, *bias;  ///< [channels]
};
void group_norm(const GroupNorm& norm, const float* x, float* sums, float* scale, float* shift);

}  // namespace orrery::kernels

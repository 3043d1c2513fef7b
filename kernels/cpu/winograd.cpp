#include "kernels/winograd.h"

#include <algorithm>
#include <cstddef>

// AVX-512, AVX2 and the baseline are enough.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/winograd.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kWinogradPanel>;
using V = hn::Vec<D>;
constexpr D d;
constexpr int kPanel = kWinogradPanel, kLanes = hn::MaxLanes(d), kSide = 6, kPositions = kWinogradPositions;

// A doubled picture shows each pixel twice, and the point −1 sees nothing of it: its row of Bᵀ, (0, 4, −4, −1, 1, 0), meets
// equal neighbours. Its row and column of products are left out.
constexpr int kUnseen = 2;
bool computed(const WinogradConv& conv, int position) {
  return !conv.doubled || (position / kSide != kUnseen && position % kSide != kUnseen);
}

// Bᵀ x of six values.
HWY_INLINE void transform_input(const V* x, size_t stride, V* y, size_t out_stride) {
  const V two = hn::Set(d, 2.f), four = hn::Set(d, 4.f), five = hn::Set(d, 5.f);
  const V x0 = x[0], x1 = x[stride], x2 = x[2 * stride], x3 = x[3 * stride], x4 = x[4 * stride], x5 = x[5 * stride];
  const V a = hn::NegMulAdd(four, x2, x4), b = hn::NegMulAdd(four, x1, x3);
  const V c = hn::Sub(x4, x2), e = hn::Mul(two, hn::Sub(x3, x1));
  y[0] = hn::MulAdd(four, x0, hn::NegMulAdd(five, x2, x4));
  y[out_stride] = hn::Add(a, b);
  y[2 * out_stride] = hn::Sub(a, b);
  y[3 * out_stride] = hn::Add(c, e);
  y[4 * out_stride] = hn::Sub(c, e);
  y[5 * out_stride] = hn::MulAdd(four, x1, hn::NegMulAdd(five, x3, x5));
}

// Aᵀ x of six values: four.
HWY_INLINE void transform_output(const V* x, size_t stride, V* y, size_t out_stride) {
  const V s = hn::Add(x[stride], x[2 * stride]), t = hn::Sub(x[stride], x[2 * stride]);
  const V u = hn::Add(x[3 * stride], x[4 * stride]), v = hn::Sub(x[3 * stride], x[4 * stride]);
  y[0] = hn::Add(hn::Add(x[0], s), u);
  y[out_stride] = hn::MulAdd(hn::Set(d, 2.f), v, t);
  y[2 * out_stride] = hn::MulAdd(hn::Set(d, 4.f), u, s);
  y[3 * out_stride] = hn::Add(hn::MulAdd(hn::Set(d, 8.f), v, t), x[5 * stride]);
}

// G x of three values: six.
HWY_INLINE void transform_weight(const V* x, size_t stride, V* y, size_t out_stride) {
  const V x0 = x[0], x1 = x[stride], x2 = x[2 * stride];
  const V even = hn::Mul(hn::Set(d, -1.f / 6), hn::Add(x0, x2)), odd = hn::Mul(hn::Set(d, 1.f / 6), x1);
  const V far_even = hn::MulAdd(hn::Set(d, 1.f / 24), x0, hn::Mul(hn::Set(d, 1.f / 6), x2));
  const V far_odd = hn::Mul(hn::Set(d, 1.f / 12), x1);
  y[0] = hn::Mul(hn::Set(d, 0.25f), x0);
  y[out_stride] = hn::Sub(even, odd);
  y[2 * out_stride] = hn::Add(even, odd);
  y[3 * out_stride] = hn::Add(far_even, far_odd);
  y[4 * out_stride] = hn::Sub(far_even, far_odd);
  y[5 * out_stride] = x2;
}

// Pointers to the 6x6 pixels that a tile sees, in one frame; `zeros` where there is none.
void find_pixels(const WinogradConv& conv, const float* frame, int64_t tile, const float* zeros, const float** pixels) {
  const int64_t across = (conv.width + kWinogradTile - 1) / kWinogradTile, shift = conv.doubled ? 1 : 0;
  const int64_t top = tile / across * kWinogradTile - 1, left = tile % across * kWinogradTile - 1, row = conv.width >> shift;
  for (int64_t i = 0; i < kSide; ++i) {
    for (int64_t j = 0; j < kSide; ++j) {
      const int64_t y = top + i, x = left + j;
      const bool inside = frame && y >= 0 && y < conv.height && x >= 0 && x < conv.width;
      pixels[i * kSide + j] = inside ? frame + ((y >> shift) * row + (x >> shift)) * conv.in : zeros;
    }
  }
}

// Transforms one slot of a tile, all channels. It is frame `a`, or, with `sign` ±1, a ± b. Rows of `to` are 16 channels of a
// tile, then the block's other tiles, then the other channels: [position][slot][in panel][tile][16].
HWY_INLINE void transform_slot(const WinogradConv& conv, const float* const* a, const float* const* b, float sign,
                               const float* const* ahead, float* to) {
  const int64_t position_stride = conv.slots() * conv.input_stride();
  const V factor = hn::Set(d, sign);
  const int64_t next = kWinogradTile * conv.in;
  for (int64_t channel = 0; channel < conv.in_panels() * kPanel; channel += kLanes) {
    const int64_t left = conv.in - channel;
    const auto load = [&](const float* pixel) {
      if (left >= kLanes) return hn::LoadU(d, pixel + channel);
      return load_some(d, pixel + channel, left);
    };
    V rows[kPositions], row[kSide];
    for (int i = 0; i < kSide; ++i) {
      for (int j = 2; j < kSide; ++j) hwy::Prefetch(ahead[i * kSide + j] + next + channel);
      for (int j = 0; j < kSide; ++j) {
        row[j] = load(a[i * kSide + j]);
        if (b) row[j] = hn::MulAdd(factor, load(b[i * kSide + j]), row[j]);
      }
      transform_input(row, 1, rows + i * kSide, 1);
    }
    float* target = to + channel / kPanel * conv.rows() * kPanel + channel % kPanel;
    for (int j = 0; j < kSide; ++j) {
      V column[kSide];
      transform_input(rows + j, kSide, column, 1);
      for (int i = 0; i < kSide; ++i) {
        if (computed(conv, i * kSide + j)) hn::StoreU(column[i], d, target + (i * kSide + j) * position_stride);
      }
    }
  }
}

void transform_inputs(const WinogradConv& conv, const float* const* frames, int64_t first, int64_t count, const float* zeros,
                      float* to) {
  const int64_t slot_stride = conv.input_stride();
  const float* pixels[4][kPositions];
  for (int64_t tile = 0; tile < count; ++tile, to += kPanel) {
    for (int64_t i = 0; i < conv.slots(); ++i) find_pixels(conv, frames[i], first + tile, zeros, pixels[i]);
    if (conv.pairs) {  // Bᵀ of F(2,3)
      transform_slot(conv, pixels[0], pixels[2], -1, pixels[0], to);
      transform_slot(conv, pixels[1], pixels[2], 1, pixels[1], to + slot_stride);
      transform_slot(conv, pixels[2], pixels[1], -1, pixels[2], to + 2 * slot_stride);
      transform_slot(conv, pixels[1], pixels[3], -1, pixels[3], to + 3 * slot_stride);
    } else {
      for (int64_t i = 0; i < conv.slots(); ++i)
        transform_slot(conv, pixels[i], nullptr, 0, pixels[i], to + i * slot_stride);
    }
  }
}

// Channels that weights are asked for ahead: they come from the second-level cache or the third.
constexpr int64_t kAhead = 8;

// sums[panel][row][16] = Σ over `slots` and channels of inputs[slot][in panel][row][16] · weights[slot][panel][channel][16],
// for kRows rows and kVectors vectors of output channels.
template <int kRows, int kVectors>
HWY_INLINE void multiply(const WinogradConv& conv, int64_t slots, const float* HWY_RESTRICT inputs,
                         const float* HWY_RESTRICT weights, float* HWY_RESTRICT sums) {
  const int64_t depth = conv.in_panels(), panel_stride = depth * kPanel * kPanel, row_stride = conv.rows() * kPanel;
  V sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  }
  for (int64_t slot = 0; slot < slots; ++slot) {
    const float* HWY_RESTRICT a = inputs + slot * conv.input_stride();
    const float* HWY_RESTRICT b = weights + slot * conv.weight_stride();
    for (int64_t p = 0; p < depth; ++p, a += row_stride - kPanel) {
      for (int k = 0; k < kPanel; ++k, ++a, b += kPanel) {
        V weight[kVectors];
        for (int v = 0; v < kVectors; ++v) {
          const int offset = v * kLanes;
          const float* const from = b + offset / kPanel * panel_stride + offset % kPanel;
          weight[v] = hn::LoadU(d, from);
          if (offset % kPanel == 0) hwy::Prefetch(from + kAhead * kPanel);
        }
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const V value = hn::Set(d, a[r * kPanel]);
          for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(value, weight[v], sum[r][v]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      const int offset = v * kLanes;
      hn::StoreU(sum[r][v], d, sums + offset / kPanel * row_stride + r * kPanel + offset % kPanel);
    }
  }
}

// All rows of a block for kVectors vectors of output channels. Rows beyond `count` are there, with whatever the memory held;
// nobody looks at their sums.
template <int kVectors>
void multiply_rows(const WinogradConv& conv, int64_t count, int64_t slots, const float* inputs, const float* weights,
                   float* sums) {
  // Rows that the registers hold beside a row of weights, and for how many that pays.
  constexpr int kMost = kLanes == kPanel ? (kVectors == 3 ? 8 : 12) : 6, kFewest = kMost == 6 ? 5 : kMost;
  int64_t row = 0;
  for (; count - row >= kFewest; row += kMost)
    multiply<kMost, kVectors>(conv, slots, inputs + row * kPanel, weights, sums + row * kPanel);
  for (; row < count; row += 4) multiply<4, kVectors>(conv, slots, inputs + row * kPanel, weights, sums + row * kPanel);
}

void multiply_all(const WinogradConv& conv, int64_t count, const float* inputs, float* sums) {
  constexpr int kVectors = kPanel / kLanes;
  const int64_t panels = conv.out_panels(), sum_panel = conv.rows() * kPanel;
  const int64_t weight_panel = conv.in_panels() * kPanel * kPanel, chain = conv.slots() / conv.sums();
  for (int position = 0; position < kPositions; ++position) {
    if (!computed(conv, position)) continue;
    for (int64_t sum = 0; sum < conv.sums(); ++sum) {
      const int64_t slot = position * conv.slots() + sum * chain;
      const float* a = inputs + slot * conv.input_stride();
      const float* b = conv.weights + slot * conv.weight_stride();
      float* m = sums + (position * conv.sums() + sum) * conv.sum_stride();
      for (int64_t panel = 0; panel < panels;) {
        const auto multiply_panels = [&]<int kCount>() {
          multiply_rows<kCount * kVectors>(conv, count, chain, a, b + panel * weight_panel, m + panel * sum_panel);
          panel += kCount;
        };
        // Three panels at once need fewer loads for each product than two; a single one is the worst.
        const int64_t left = panels - panel;
        if (kLanes < kPanel || left == 1)
          multiply_panels.template operator()<1>();
        else if (left == 2 || left == 4)
          multiply_panels.template operator()<2>();
        else
          multiply_panels.template operator()<3>();
      }
    }
  }
}

// The pixels of one tile in one output frame: output frame 0 of a pair is m₀ + m₁ + m₂, frame 1 is m₁ − m₂ − m₃.
template <int kSums>
HWY_INLINE void write_tile(const WinogradConv& conv, int64_t tile, int which, const float* sums, const float* residual,
                           float* output) {
  const int64_t across = (conv.width + kWinogradTile - 1) / kWinogradTile;
  const int64_t top = tile / across * kWinogradTile, left = tile % across * kWinogradTile;
  const int64_t sum_stride = conv.sum_stride(), height = std::min(conv.height - top, kWinogradTile);
  const int64_t width = std::min(conv.width - left, kWinogradTile);
  for (int64_t channel = 0; channel < conv.out; channel += kLanes) {
    const float* from = sums + channel / kPanel * conv.rows() * kPanel + channel % kPanel;
    V rows[kSide * 4], tile_pixels[16];
    for (int i = 0; i < kSide; ++i) {
      V row[kSide];
      for (int j = 0; j < kSide; ++j) {
        const float* at = from + (i * kSide + j) * kSums * sum_stride;
        if (!computed(conv, i * kSide + j)) {
          row[j] = hn::Zero(d);
        } else if constexpr (kSums == 1) {
          row[j] = hn::LoadU(d, at);
        } else {
          const V m1 = hn::LoadU(d, at + sum_stride), m2 = hn::LoadU(d, at + 2 * sum_stride);
          row[j] = which == 0 ? hn::Add(hn::LoadU(d, at), hn::Add(m1, m2))
                              : hn::Sub(hn::Sub(m1, m2), hn::LoadU(d, at + 3 * sum_stride));
        }
      }
      transform_output(row, 1, rows + i * 4, 1);
    }
    for (int j = 0; j < 4; ++j) transform_output(rows + j, 4, tile_pixels + j, 4);

    const int64_t count = std::min<int64_t>(conv.out - channel, kLanes);
    const auto load = [&](const float* p) { return count == kLanes ? hn::LoadU(d, p) : load_some(d, p, count); };
    const V bias = conv.bias ? load(conv.bias + channel) : hn::Zero(d);
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < width; ++j) {
        const int64_t at = ((top + i) * conv.width + left + j) * conv.pixel_stride + channel;
        V value = hn::Add(tile_pixels[i * 4 + j], bias);
        if (residual) value = hn::Add(value, load(residual + at));
        if (count == kLanes)
          hn::StoreU(value, d, output + at);
        else
          store_some(value, d, output + at, count);
      }
    }
  }
}

void write_outputs(const WinogradConv& conv, int64_t step, int64_t first, int64_t count, const float* sums) {
  for (int64_t tile = 0; tile < count; ++tile, sums += kPanel) {
    for (int which = 0; which < conv.outputs_a_step(); ++which) {
      const int64_t frame = step * conv.outputs_a_step() + which;
      const float* residual = conv.residuals ? conv.residuals[frame] : nullptr;
      if (conv.pairs)
        write_tile<4>(conv, first + tile, which, sums, residual, conv.outputs[frame]);
      else
        write_tile<1>(conv, first + tile, which, sums, residual, conv.outputs[frame]);
    }
  }
}

void weights_of(const WinogradConv& conv, const float* weight, int64_t taps_total, int64_t begin, int64_t end, float* to) {
  const int64_t depth = conv.in_panels() * kPanel, slots = conv.slots(), skipped = taps_total - conv.taps;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t panel = item / depth, channel = item % depth;
    alignas(64) float taps[4][9][kPanel] = {};
    for (int64_t o = 0; o < kPanel && panel * kPanel + o < conv.out && channel < conv.in; ++o) {
      const float* from = weight + (((panel * kPanel + o) * conv.in + channel) * taps_total + skipped) * 9;
      for (int64_t tap = 0; tap < conv.taps; ++tap) {
        for (int64_t i = 0; i < 9; ++i) taps[tap][i][o] = from[tap * 9 + i];
      }
    }
    for (int lane = 0; lane < kPanel; lane += kLanes) {
      for (int64_t slot = 0; slot < slots; ++slot) {
        V kernel[9], rows[3 * kSide], column[kSide];
        for (int i = 0; i < 9; ++i) {
          const auto tap = [&](int64_t k) { return hn::Load(d, taps[k][i] + lane); };
          if (!conv.pairs) {
            kernel[i] = tap(slot);
          } else if (slot == 0 || slot == 3) {
            kernel[i] = tap(slot == 0 ? 0 : 2);
          } else {
            const V ends = hn::Add(tap(0), tap(2));
            kernel[i] = hn::Mul(hn::Set(d, 0.5f), slot == 1 ? hn::Add(ends, tap(1)) : hn::Sub(ends, tap(1)));
          }
        }
        for (int i = 0; i < 3; ++i) transform_weight(kernel + i * 3, 1, rows + i * kSide, 1);
        for (int j = 0; j < kSide; ++j) {
          transform_weight(rows + j, kSide, column, 1);
          for (int i = 0; i < kSide; ++i) {
            if (!computed(conv, i * kSide + j)) continue;
            float* target =
                to + ((i * kSide + j) * slots + slot) * conv.weight_stride() + (panel * depth + channel) * kPanel + lane;
            hn::StoreU(column[i], d, target);
          }
        }
      }
    }
  }
}

void convolve(const WinogradConv& conv, int64_t begin, int64_t end, float* workspace) {
  float* const inputs = workspace;
  float* const sums = inputs + conv.input_floats();
  float* const zeros = sums + conv.sum_floats();
  std::fill_n(zeros, conv.in_panels() * kPanel, 0.f);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t step = item / conv.blocks(), first = item % conv.blocks() * conv.block;
    const int64_t count = std::min(conv.block, conv.tiles() - first);
    transform_inputs(conv, conv.frames + step * conv.slots(), first, count, zeros, inputs);
    multiply_all(conv, count, inputs, sums);
    write_outputs(conv, step, first, count, sums);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace orrery::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(weights_of);
HWY_EXPORT(convolve);

void winograd_weights(const WinogradConv& conv, const float* weight, int64_t taps_total, int64_t begin, int64_t end,
                      float* to) {
  HWY_DYNAMIC_DISPATCH(weights_of)(conv, weight, taps_total, begin, end, to);
}

void winograd_convolve(const WinogradConv& conv, int64_t begin, int64_t end, float* workspace) {
  HWY_DYNAMIC_DISPATCH(convolve)(conv, begin, end, workspace);
}

}  // namespace orrery::kernels
#endif

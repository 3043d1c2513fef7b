#pragma once

#include <cstdint>

// 3x3 convolutions, padded by one zero, through Winograd's minimal filtering F(4x4,3x3): each tile of 4x4 output pixels
// costs 36 products a pair of channels instead of 144. Kernels of several frames either sum their taps in the transformed
// domain (36 products a tap) or, two output frames at a time, are filtered by F(2,3) over time as well (72 a frame instead
// of 108). Sources: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4; the points are 0,
// ±1, ±2, ∞. Rounding: 2e-6 relative L2 a layer in float32 (a direct sum: 2e-7).
//
// Pictures are channels-last, float32. Channels are taken in panels of 16, the last of which may be partly filled.
namespace orrery::kernels {

inline constexpr int64_t kWinogradPanel = 16;
inline constexpr int64_t kWinogradTile = 4;        ///< output pixels of a tile, each way
inline constexpr int64_t kWinogradPositions = 36;  ///< products of a tile

/// One convolution of many pictures.
struct WinogradConv {
  int64_t height = 0, width = 0;  ///< of the output
  int64_t in = 0, out = 0;        ///< channels
  int64_t taps = 1;               ///< frames of the kernel, 1 to 4; 3 where `pairs`
  bool pairs = false;             ///< two output frames a step, from four input frames
  bool doubled = false;  ///< the input is half as high and wide, and doubled to the nearest pixel before the convolution
  int64_t block = 0;     ///< tiles that a thread takes at once

  const float* weights = nullptr;           ///< winograd_weights()
  const float* bias = nullptr;              ///< [out], or null
  const float* const* frames = nullptr;     ///< [steps][pairs ? 4 : taps], each [height,width,in], oldest first; null: zeros
  const float* const* residuals = nullptr;  ///< [steps][pairs ? 2 : 1], added to the outputs and of their strides; or null
  float* const* outputs = nullptr;          ///< [steps][pairs ? 2 : 1]
  int64_t pixel_stride = 0;                 ///< floats from one output pixel to the next

  int64_t slots() const { return pairs ? 4 : taps; }  ///< transformed input frames of a step
  int64_t sums() const { return pairs ? 4 : 1; }      ///< transformed output frames of a step
  int64_t outputs_a_step() const { return pairs ? 2 : 1; }
  int64_t in_panels() const { return (in + kWinogradPanel - 1) / kWinogradPanel; }
  int64_t out_panels() const { return (out + kWinogradPanel - 1) / kWinogradPanel; }
  int64_t tiles() const {
    return ((height + kWinogradTile - 1) / kWinogradTile) * ((width + kWinogradTile - 1) / kWinogradTile);
  }
  int64_t blocks() const { return (tiles() + block - 1) / block; }
  int64_t rows() const { return (block + 11) / 12 * 12; }  ///< of a block's matrices: 4, 6, 8 or 12 are multiplied at once
  // One matrix each. A cache line more keeps the 36 of a tile from falling into one set of the cache.
  int64_t weight_stride() const { return (out_panels() * in_panels() * kWinogradPanel + 1) * kWinogradPanel; }
  int64_t input_stride() const { return (in_panels() * rows() + 1) * kWinogradPanel; }
  int64_t sum_stride() const { return (out_panels() * rows() + 1) * kWinogradPanel; }
  int64_t weight_floats() const { return kWinogradPositions * slots() * weight_stride(); }
  int64_t input_floats() const { return kWinogradPositions * slots() * input_stride(); }
  int64_t sum_floats() const { return kWinogradPositions * sums() * sum_stride(); }
  /// Floats of scratch memory for one call of winograd_convolve.
  int64_t workspace_floats() const { return input_floats() + sum_floats() + in_panels() * kWinogradPanel; }
};

/// Transforms `weight` [out, in, taps_total, 3, 3] of which the last `conv.taps` taps count. The items are pairs of (output
/// panel, input channel): out_panels · in_panels · 16 of them, the channels of a panel next to each other.
void winograd_weights(const WinogradConv& conv, const float* weight, int64_t taps_total, int64_t begin, int64_t end,
                      float* to);

/// Convolves. The items are steps · blocks() blocks of tiles. `workspace`, 64-byte aligned, belongs to this call alone.
void winograd_convolve(const WinogradConv& conv, int64_t begin, int64_t end, float* workspace);

}  // namespace orrery::kernels

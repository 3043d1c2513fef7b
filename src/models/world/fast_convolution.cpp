#include "models/world/fast_convolution.h"

#include <array>

namespace orrery::models {
namespace {

// Where the pixels of a picture begin: in a buffer without a border, and the upper left of their 3x3 neighbourhood in one
// with a border.
struct Places {
  std::vector<int64_t> plain, padded;
  std::array<int64_t, 9> taps;

  Places(int64_t side, int64_t in, int64_t out) {
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x) {
        plain.push_back((y * side + x) * out);
        padded.push_back((y * (side + 2) + x) * in);
      }
    for (int64_t tap = 0; tap < 9; ++tap) taps[tap] = (tap / 3 * (side + 2) + tap % 3) * in;
  }
};

}  // namespace

void convolve(const ops::PackedProduct& conv, const float* padded, int64_t side, float* out, ops::Then then) {
  const Places places(side, conv.depth(), conv.columns());
  conv(padded, places.padded, places.taps, out, places.plain, then);
}

std::vector<float> bordered(int64_t side, int64_t channels) {
  return std::vector<float>((side + 2) * (side + 2) * channels);
}

}  // namespace orrery::models

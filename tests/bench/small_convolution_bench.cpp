// Convolutions of the bundled worlds' decoder and stem, by Winograd's filtering, tap by tap and through matrix
// tiles.
#include <ATen/ATen.h>

#include <vector>

#include "ops/small_convolution.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

using Form = ops::SmallConvolution::Form;

template <int64_t side, int64_t channels, Form form>
Beside picture() {
  const at::Tensor x = at::randn({side, side, channels}), bias = at::randn({channels}),
                   weight = (at::randn({channels, channels, 3, 3}) / 16).to(at::kBFloat16).to(at::kFloat),
                   y = at::empty({side, side, channels});
  const ops::SmallConvolution conv(weight, bias, side, form);
  std::vector<float> picture((side + 2) * (side + 2) * channels);  // room for a border
  const int64_t row = side * channels;
  for (int64_t i = 0; i < side; ++i) std::copy_n(x.const_data_ptr<float>() + i * row, row, picture.data() + conv.at(i, 0));
  return {[=] { return conv(picture.data(), y.data_ptr<float>()), y; },
          [=] {
            return at::conv2d(x.permute({2, 0, 1}).unsqueeze(0), weight, bias, 1, 1).squeeze(0).permute({1, 2, 0});
          }};
}
const bool added = beside("small_convolution/winograd/8x8x128", picture<8, 128, Form::kWinograd>) &&
                   beside("small_convolution/direct/8x8x128", picture<8, 128, Form::kDirect>) &&
                   beside("small_convolution/winograd/8x8x64", picture<8, 64, Form::kWinograd>) &&
                   beside("small_convolution/direct/8x8x64", picture<8, 64, Form::kDirect>) &&
                   beside("small_convolution/winograd/16x16x64", picture<16, 64, Form::kWinograd>) &&
                   beside("small_convolution/direct/16x16x64", picture<16, 64, Form::kDirect>) &&
                   beside("small_convolution/tiles/16x16x64", picture<16, 64, Form::kTiles>) &&
                   beside("small_convolution/tiles/32x32x32", picture<32, 32, Form::kTiles>) &&
                   beside("small_convolution/winograd/32x32x32", picture<32, 32, Form::kWinograd>) &&
                   beside("small_convolution/direct/32x32x32", picture<32, 32, Form::kDirect>);

}  // namespace
}  // namespace orrery::bench

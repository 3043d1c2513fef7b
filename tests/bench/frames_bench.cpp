// Nine pictures of 256x256 as a tokenizer takes them, and back.
#include <ATen/ATen.h>

#include "ops/frames.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside in() {
  const at::Tensor rgb = at::randint(256, {9, 256, 256, 3}, at::kByte);
  return {[=] { return ops::frames_from_rgb(rgb, 256, 256, at::kFloat); },
          [=] {
            return rgb.permute({0, 3, 1, 2}).to(at::kFloat).div_(127.5).sub_(1).contiguous();
          }};
}
Beside out() {
  const at::Tensor numbers = at::rand({9, 3, 256, 256}) * 2 - 1;
  return {[=] { return ops::frames_to_rgb(numbers, 256, 256); },
          [=] {
            return ((numbers.clamp(-1, 1) + 1) * 127.5).round().to(at::kByte).permute({0, 2, 3, 1}).contiguous();
          }};
}
const bool added = beside("frames_from_rgb", in) && beside("frames_to_rgb", out);

}  // namespace
}  // namespace orrery::bench

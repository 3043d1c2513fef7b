#include "layers/temporal_conv.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "ops/shares.h"

namespace orrery::layers {
namespace {

constexpr int64_t kTaps = 3;
constexpr int64_t kBlockBytes = 512 << 10;  // of one frame's rows: sums of frames stay in the second-level cache

/// The matrices [O,I] that frames and their sums are multiplied by. What a single frame of a long stream does not need is not
/// made.
struct Taps {
  /// `starts`: the clip begins here; `pairs`: two frames that do not begin it are taken together.
  Taps(const at::Tensor& weight, bool starts, bool pairs) {
    const at::Tensor taps = weight.permute({2, 0, 1}).contiguous();
    for (int64_t i = 0; i < kTaps; ++i) tap[i] = taps[i];
    if (!starts && !pairs) return;
    const at::Tensor outer = tap[0] + tap[2];
    sum = outer + tap[1];
    if (!pairs) return;
    half_sum = sum * 0.5;
    half_difference = outer.sub_(tap[1]).mul_(0.5);
  }
  at::Tensor tap[kTaps], sum, half_sum, half_difference;
};

/// Some rows of neighbouring frames, the newest last, and of the outputs at the newest ones. Rows are [rows,C].
class Block {
 public:
  Block(const Taps& taps, const at::Tensor& bias, std::vector<at::Tensor> seen)
      : taps_(taps), bias_(bias), seen_(std::move(seen)) {}

  void one(at::Tensor y) const {
    at::addmm_out(y, bias_, seen_[2], taps_.tap[2].t());
    for (int64_t i : {1, 0}) y.addmm_(seen_[i], taps_.tap[i].t());
  }

  void two(at::Tensor y, at::Tensor next) const {
    const at::Tensor even = at::addmm(bias_, seen_[1] + seen_[2], taps_.half_sum.t());
    const at::Tensor odd = at::mm(seen_[2] - seen_[1], taps_.half_difference.t());
    at::add_out(y, even, odd);
    at::sub_out(next, even, odd);
    y.addmm_(seen_[0] - seen_[2], taps_.tap[0].t());
    next.addmm_(seen_[3] - seen_[1], taps_.tap[2].t());
  }

  /// The same where a clip begins: the first three frames are one.
  void first(at::Tensor y) const { at::addmm_out(y, bias_, seen_[2], taps_.sum.t()); }
  void first_two(at::Tensor y, at::Tensor next) const {
    first(y);
    next.copy_(y);
    next.addmm_(seen_[3] - seen_[2], taps_.tap[2].t());
  }

 private:
  const Taps& taps_;
  const at::Tensor& bias_;
  std::vector<at::Tensor> seen_;
};

}  // namespace

bool takes_temporal_conv(const at::Tensor& x, int64_t taps, int64_t stride) {
  return taps == kTaps && stride == 1 && x.device().is_cpu() && x.scalar_type() == at::kFloat;
}

at::Tensor temporal_conv(const at::Tensor& past, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t frames = x.size(0), channels = x.size(-1);
  at::Tensor y = at::empty({frames, x.size(1), x.size(2), x.size(3), weight.size(0)}, x.options());
  if (y.numel() == 0) return y;
  const int64_t rows = x[0].numel() / channels;
  std::vector<at::Tensor> in, out;  // as rows; two frames of the past first
  for (int64_t i = 0; i + 1 < kTaps; ++i) in.push_back((past.defined() ? past[i] : x[0]).reshape({rows, channels}));
  for (int64_t n = 0; n < frames; ++n) {
    in.push_back(x[n].reshape({rows, channels}));
    out.push_back(y[n].view({rows, weight.size(0)}));
  }
  const Taps taps(weight, !past.defined(), frames >= (past.defined() ? 2 : 4));
  const int64_t block = std::clamp<int64_t>(kBlockBytes / (channels * static_cast<int64_t>(sizeof(float))), 1, rows);
  const int64_t blocks = (rows + block - 1) / block, pairs = (frames + 1) / 2;
  ops::in_shares({.count = blocks * pairs, .most = 1}, [&](auto&& next_share) {
    const c10::InferenceMode inference;  // of this thread
    while (const auto share = next_share()) {
      const int64_t begin = share->first % blocks * block, n = share->first / blocks * 2, size = std::min(block, rows - begin);
      const bool starts = n == 0 && !past.defined(), alone = n + 1 == frames;
      std::vector<at::Tensor> seen;
      for (int64_t i = 0; i < (alone ? kTaps : kTaps + 1); ++i)
        seen.push_back(in[static_cast<size_t>(n + i)].narrow(0, begin, size));
      const auto target = [&](int64_t frame) { return out[static_cast<size_t>(frame)].narrow(0, begin, size); };
      const Block these(taps, bias, std::move(seen));
      if (alone) starts ? these.first(target(n)) : these.one(target(n));
      else starts ? these.first_two(target(n), target(n + 1)) : these.two(target(n), target(n + 1));
    }
  });
  return y;
}

}  // namespace orrery::layers

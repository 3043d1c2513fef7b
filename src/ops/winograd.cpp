#include "ops/winograd.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "kernels/winograd.h"
#include "ops/counted.h"
#include "ops/scratch.h"
#include "ops/shares.h"
#include "orrery/error.h"

namespace orrery::ops {

namespace {

using kernels::WinogradConv;

constexpr int64_t kWeightBytes = int64_t{64} << 20;  // of transformed weights at a time
constexpr int64_t kMostBlocks = 8;                   // a thread's share at a time
constexpr int64_t kMostTiles = 48;  // of a block: its transformed pixels should stay in the second-level cache
constexpr int64_t kTileRows = 8;    // of a block at least: what the registers hold at once

template <typename... Parts>
[[noreturn]] void refuse(const char* what, const char* expected, const Parts&... parts) {
  std::ostringstream got;
  (got << ... << parts);
  throw Error(ErrorKind::kArgument, {.place = "winograd_3x3", .what = what, .expected = expected, .got = got.str()});
}

// Frames are read and written where they lie: pixels next to each other, rows likewise.
bool frames_are_dense(const at::Tensor& x) {
  return x.stride(4) == 1 && x.stride(3) == x.size(4) && x.stride(2) == x.size(3) * x.size(4);
}

const float* frame_of(const at::Tensor& x, int64_t batch, int64_t frame) {
  return x.const_data_ptr<float>() + batch * x.stride(0) + frame * x.stride(1);
}

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// How many tiles the busiest of the threads gets when each takes block after block.
int64_t most_tiles(int64_t tiles, int64_t steps, int64_t threads, int64_t block) {
  std::vector<int64_t> taken(static_cast<size_t>(threads), 0);
  for (int64_t step = 0; step < steps; ++step)
    for (int64_t first = 0; first < tiles; first += block)
      *std::min_element(taken.begin(), taken.end()) += std::min(block, tiles - first);
  return *std::max_element(taken.begin(), taken.end());
}

// Large blocks read the weights less often; smaller ones are worth it where few of them would leave threads without work.
int64_t tiles_of_a_block(int64_t tiles, int64_t steps, int64_t threads) {
  if (tiles * steps > 16 * threads * kMostTiles) return kMostTiles;
  int64_t best = kMostTiles;
  for (int64_t block = kMostTiles - kTileRows; block >= kTileRows; block -= kTileRows)
    if (20 * most_tiles(tiles, steps, threads, block) < 19 * most_tiles(tiles, steps, threads, best)) best = block;
  return std::min(best, tiles);
}

// The frames of a clip that are computed in one way: `count` of them from `begin`.
class Run {
 public:
  Run(const std::vector<at::Tensor>& history, const at::Tensor& x, const Winograd3x3& conv, const at::Tensor& y)
      : history_(history), x_(x), spec_(conv), y_(y), taps_(static_cast<int64_t>(history.size()) + 1) {}

  void operator()(int64_t begin, int64_t count, bool pairs) const {
    WinogradConv conv;
    conv.height = y_.size(2);
    conv.width = y_.size(3);
    conv.in = x_.size(4);
    conv.pairs = pairs;
    conv.doubled = spec_.doubled;
    conv.pixel_stride = y_.size(4);
    conv.taps = pairs ? taps_ : live_taps(begin);
    std::vector<const float*> frames, residuals;
    std::vector<float*> outputs;
    const int64_t stride = conv.outputs_a_step();
    for (int64_t batch = 0; batch < x_.size(0); ++batch) {
      for (int64_t step = begin; step < begin + count; step += stride) {
        for (int64_t slot = 0; slot < conv.slots(); ++slot) frames.push_back(input(batch, step + 1 - conv.taps + slot));
        for (int64_t i = 0; i < stride; ++i) {
          outputs.push_back(const_cast<float*>(frame_of(y_, batch, step + i)));
          if (spec_.residual.defined()) residuals.push_back(frame_of(spec_.residual, batch, step + i));
        }
      }
    }
    conv.frames = frames.data();
    const int64_t steps = x_.size(0) * count / stride;
    conv.block = tiles_of_a_block(conv.tiles(), steps, at::get_num_threads());
    by_channels(conv, steps, residuals, outputs);
  }

 private:
  // How many of the kernel's taps, the newest ones, see more than zeros in this frame.
  int64_t live_taps(int64_t frame) const {
    int64_t taps = std::min(frame + 1, taps_);
    while (taps < taps_ && history_[taps_ - 1 - (taps - frame)].defined()) ++taps;
    return taps;
  }

  const float* input(int64_t batch, int64_t frame) const {
    if (frame >= 0) return frame_of(x_, batch, frame);
    const at::Tensor& past = history_[taps_ - 1 + frame];
    return past.defined() ? frame_of(past, batch, 0) : nullptr;
  }

  // Some output channels at a time, so that the transformed weights stay small.
  void by_channels(WinogradConv conv, int64_t steps, const std::vector<const float*>& residuals,
                   const std::vector<float*>& outputs) const {
    const int64_t out = y_.size(4), panel = kernels::kWinogradPanel;
    conv.out = panel;
    const int64_t panels = divide_up(out, panel), bytes = conv.weight_floats() * static_cast<int64_t>(sizeof(float));
    const int64_t parts = std::min(panels, divide_up(panels * bytes, kWeightBytes)), each = divide_up(panels, parts) * panel;
    conv.out = each;
    const Scratch transformed(conv.weight_floats());
    for (int64_t channel = 0; channel < out; channel += each) {
      conv.out = std::min(each, out - channel);
      const at::Tensor weight = spec_.weight.narrow(0, channel, conv.out).to(at::kFloat).contiguous();
      at::parallel_for(0, conv.out_panels() * conv.in_panels() * panel, 16, [&](int64_t begin, int64_t end) {
        kernels::winograd_weights(conv, weight.const_data_ptr<float>(), taps_, begin, end, transformed.data());
      });
      conv.weights = transformed.data();
      const at::Tensor bias =
          spec_.bias.defined() ? spec_.bias.narrow(0, channel, conv.out).to(at::kFloat).contiguous() : at::Tensor();
      conv.bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
      std::vector<const float*> added = residuals;
      std::vector<float*> targets = outputs;
      for (const float*& pointer : added) pointer += channel;
      for (float*& pointer : targets) pointer += channel;
      conv.residuals = added.empty() ? nullptr : added.data();
      conv.outputs = targets.data();
      in_shares({.count = steps * conv.blocks(), .most = kMostBlocks}, [&](auto&& next_share) {
        const Scratch workspace(conv.workspace_floats());
        while (const auto share = next_share())
          kernels::winograd_convolve(conv, share->first, share->last, workspace.data());
      });
    }
  }

  const std::vector<at::Tensor>& history_;
  const at::Tensor& x_;
  const Winograd3x3& spec_;
  const at::Tensor& y_;
  int64_t taps_;
};

void check(const std::vector<at::Tensor>& history, const at::Tensor& x, const Winograd3x3& conv, at::IntArrayRef result) {
  const at::Tensor& weight = conv.weight;
  const int64_t taps = static_cast<int64_t>(history.size()) + 1;
  if (x.dim() != 5 || x.scalar_type() != at::kFloat || !x.device().is_cpu()) {
    refuse("takes another kind of clip", "float32 [B,T,H,W,C] on the CPU", x.scalar_type(), " ", x.sizes(), " on ",
           x.device());
  }
  if (taps > 3) refuse("looks back too far", "at most two frames of history", history.size());
  const bool fits = (weight.dim() == 5 && weight.size(2) == taps) || (weight.dim() == 4 && taps == 1);
  if (!fits || weight.size(1) != x.size(4) || weight.size(-1) != 3 || weight.size(-2) != 3) {
    refuse("the weight fits neither history nor channels", "[out, C, frames of history + 1, 3, 3]", weight.sizes());
  }
  for (const at::Tensor& frame : history) {
    if (!frame.defined()) continue;
    const std::vector<int64_t> shape{x.size(0), 1, x.size(2), x.size(3), x.size(4)};
    if (frame.sizes() != at::IntArrayRef(shape) || frame.scalar_type() != at::kFloat || !frames_are_dense(frame)) {
      refuse("a frame of history is not like the clip's", "float32 [B,1,H,W,C], channels-last", frame.scalar_type(), " ",
             frame.sizes());
    }
  }
  if (conv.residual.defined() && (conv.residual.sizes() != result || conv.residual.scalar_type() != at::kFloat)) {
    refuse("the residual is not like the result", "float32, the result's shape", conv.residual.scalar_type(), " ",
           conv.residual.sizes());
  }
}

}  // namespace

bool winograd_pays(const at::Tensor& x, int64_t out, int64_t taps, bool doubled) {
  const int64_t in = x.size(4), area = x.size(2) * x.size(3) * (doubled ? 4 : 1);
  return x.device().is_cpu() && x.scalar_type() == at::kFloat && taps <= 3 && in >= 16 && out >= 16 && area >= 64 * 4;
}

at::Tensor winograd_3x3(const std::vector<at::Tensor>& history, const at::Tensor& x, const Winograd3x3& conv) {
  const int64_t scale = conv.doubled ? 2 : 1;
  std::vector<int64_t> shape = x.sizes().vec();
  if (x.dim() == 5) shape = {x.size(0), x.size(1), x.size(2) * scale, x.size(3) * scale, conv.weight.size(0)};
  check(history, x, conv, shape);
  const Counted counted("orrery::winograd_3x3", {x, conv.weight});
  const at::Tensor y = at::empty(shape, x.options());
  if (y.numel() == 0) return counted.done(y);
  const at::Tensor clip = frames_are_dense(x) ? x : x.contiguous();
  const Winograd3x3 dense{conv.weight, conv.bias, conv.residual.defined() ? conv.residual.contiguous() : at::Tensor(),
                          conv.doubled};
  const Run run(history, clip, dense, y);
  const int64_t frames = x.size(1);
  if (history.empty()) {
    run(0, frames, false);
    return counted.done(y);
  }
  // Kernels of three frames are filtered over time, too, two frames at once; what is left over goes first, where taps may
  // see zeros.
  const bool pairs = history.size() == 2;
  const int64_t alone = pairs ? frames % 2 : frames;
  for (int64_t frame = 0; frame < alone; ++frame) run(frame, 1, false);
  if (alone < frames) run(alone, frames - alone, true);
  return counted.done(y);
}

}  // namespace orrery::ops

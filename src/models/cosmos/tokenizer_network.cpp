#include "models/cosmos/tokenizer_network.h"

#include <ATen/ATen.h>

#include <array>
#include <string>
#include <utility>

#include "ops/dispatch.h"
#include "ops/patch.h"

namespace orrery::models {
namespace {

using Axis = CosmosCausalAttention::Axis;

/// Attention at one place of the network: in space, and in factorised networks in time after it.
std::vector<CosmosCausalAttention> make_attention(const Weights& space, const Weights& time,
                                                  const CosmosLayerSetting& setting, int64_t channels) {
  std::vector<CosmosCausalAttention> parts;
  parts.emplace_back(space, setting, channels, Axis::kSpace);
  if (setting.kind == CosmosKind::kFactorized) parts.emplace_back(time, setting, channels, Axis::kTime);
  return parts;
}

/// The suffix of a lone attention: a factorised network keeps the two in a sequence.
std::string attention_part(const CosmosLayerSetting& setting, const char* index) {
  return setting.kind == CosmosKind::kFactorized ? std::string(".") + index : std::string();
}

std::vector<CosmosLevelBlock3d> make_levels(const Weights& weights, const CosmosNetworkPlan& plan,
                                            const CosmosLayerSetting& setting, CosmosResample3d::Direction direction) {
  std::vector<CosmosLevelBlock3d> levels;
  const bool down = direction == CosmosResample3d::Direction::kDown;
  const int64_t count = static_cast<int64_t>(plan.levels.size());
  int64_t in = plan.stem;
  for (int64_t i = 0; i < count; ++i) {
    const Weights level = setting.names.diffusers ? weights.sub(down ? "down_blocks" : "up_blocks", i)
                          : down                  ? weights.sub("down", i)
                                                  : weights.sub("up", count - 1 - i);  // the original counts from the pixels
    levels.emplace_back(level, setting, in, plan.blocks, plan.levels[i], direction);
    in = plan.levels[i].width;
  }
  return levels;
}

at::Tensor repeat_time(const at::Tensor& x, bool first) {
  // Every frame counts twice, but the first of a clip once.
  const at::Tensor y = x.repeat_interleave(2, 0);
  return first ? y.slice(0, 1) : y;
}

// [t,B,h,w,C,pt,p,p] as the kernels see patches.
constexpr std::array<int64_t, 8> kPatchesOutside = {1, 4, 5, 6, 7, 0, 2, 3};

bool by_kernel(const at::Tensor& x, int64_t patch) {
  return patch > 1 && x.numel() > 0 && x.stride(-1) == 1 && ops::on_device_with_kernels(x);
}

}  // namespace

at::Tensor cosmos_haar(const CosmosNetworkPlan& plan, bool inverse) {
  if (!plan.haar || plan.patch == 1) return {};
  const bool time = plan.patch_frames() > 1;
  const int64_t p = plan.patch, pt = plan.patch_frames(), C = plan.image_channels, bands = time ? 8 : 4;
  const int64_t size = plan.patch_channels();
  at::Tensor map = at::zeros({size, size}, at::kDouble);
  auto value = map.accessor<double, 2>();
  // A wavelet's channel is (band of the coarsest level … band of the finest, C); a patch's is (C, p_t, p_h, p_w). A band's
  // bits are low or high in (t, h, w), or, in 2D, in (w, h); level l compares the pixels whose coordinates differ in bit l.
  for (int64_t wavelet = 0; wavelet < size / C; ++wavelet) {
    for (int64_t pixel = 0; pixel < size / C; ++pixel) {
      const int64_t t = pixel / (p * p), h = pixel / p % p, w = pixel % p;
      double product = 1;
      int64_t rest = wavelet;
      for (int64_t bit = 0; (int64_t{1} << bit) < p; ++bit, rest /= bands) {
        const int64_t band = rest % bands, b_t = t >> bit & 1, b_h = h >> bit & 1, b_w = w >> bit & 1;
        const int64_t odd = time ? (band >> 2 & b_t) + (band >> 1 & b_h) + (band & b_w) : (band >> 1 & b_w) + (band & b_h);
        if (odd % 2 == 1) product = -product;
        if (!inverse) product /= static_cast<double>(bands);
      }
      for (int64_t c = 0; c < C; ++c) {
        const int64_t row = wavelet * C + c, column = c * pt * p * p + pixel;
        (inverse ? value[column][row] : value[row][column]) = product;
      }
    }
  }
  return map;
}

at::Tensor cosmos_patches(const at::Tensor& pixels, const CosmosNetworkPlan& plan, bool first) {
  const int64_t p = plan.patch, pt = plan.patch_frames(), B = pixels.size(0), C = pixels.size(1);
  const int64_t lead = first ? pt - 1 : 0;
  if (by_kernel(pixels, p)) {
    const int64_t t = (pixels.size(2) + lead) / pt, h = pixels.size(3) / p, w = pixels.size(4) / p;
    const at::Tensor patches = at::empty({t, B, h, w, C, pt, p, p}, pixels.options());
    ops::patch_into(pixels, patches.permute(kPatchesOutside), {.pt = pt, .ps = p, .lead = lead});
    return patches.flatten(4);
  }
  at::Tensor x = pixels;
  if (lead > 0) x = at::cat({x.slice(2, 0, 1).expand({-1, -1, pt - 1, -1, -1}), x}, 2);
  const int64_t t = x.size(2) / pt, h = x.size(3) / p, w = x.size(4) / p;
  return x.reshape({B, C, t, pt, h, p, w, p}).permute({2, 0, 4, 6, 1, 3, 5, 7}).reshape({t, B, h, w, C * pt * p * p});
}

at::Tensor cosmos_unpatch(const at::Tensor& patches, const CosmosNetworkPlan& plan, bool first) {
  const int64_t p = plan.patch, pt = plan.patch_frames(), C = plan.image_channels;
  const int64_t t = patches.size(0), B = patches.size(1), h = patches.size(2), w = patches.size(3);
  if (by_kernel(patches, p)) {
    const int64_t lead = first ? pt - 1 : 0;
    const at::Tensor pixels = at::empty({B, C, t * pt - lead, h * p, w * p}, patches.options());
    ops::unpatch_into(patches.view({t, B, h, w, C, pt, p, p}).permute(kPatchesOutside), pixels,
                      {.pt = pt, .ps = p, .lead = lead});
    return pixels;
  }
  const at::Tensor x = patches.view({t, B, h, w, C, pt, p, p}).permute({1, 4, 0, 5, 2, 6, 3, 7});
  const at::Tensor pixels = x.reshape({B, C, t * pt, h * p, w * p});
  return first && pt > 1 ? pixels.slice(2, pt - 1) : pixels;
}

CosmosMidBlock3d::CosmosMidBlock3d(const Weights& weights, const CosmosLayerSetting& s, int64_t channels)
    : block_1_(weights.sub(s.names.diffusers ? "resnets.0" : "block_1"), s, channels, channels),
      attn_1_(s.names.diffusers
                  ? make_attention(weights.sub("attentions.0"), weights.sub("temp_attentions.0"), s, channels)
                  : make_attention(weights.sub("attn_1" + attention_part(s, "0")), weights.sub("attn_1.1"), s, channels)),
      block_2_(weights.sub(s.names.diffusers ? "resnets.1" : "block_2"), s, channels, channels) {}

at::Tensor CosmosMidBlock3d::operator()(at::Tensor x, CosmosPass& pass) const {
  x = block_1_(x, pass);
  for (const CosmosCausalAttention& attention : attn_1_) x = attention(x, pass);
  return block_2_(x, pass);
}

CosmosResample3d::CosmosResample3d(const Weights& weights, const CosmosLayerSetting& s, int64_t channels,
                                   const CosmosLevel& level, Direction direction)
    : direction_(direction), space_(level.space), time_(level.time) {
  const bool down = direction == Direction::kDown;
  const int64_t C = channels, stride = down ? 2 : 1;
  const auto make = [&](const char* name, CosmosKernel kernel) {
    return CosmosCausalConv3d(weights.sub(name + s.names.conv), s.kind == CosmosKind::kImage, C, C, kernel, s.slots);
  };
  if (s.kind == CosmosKind::kImage) {
    conv_ = make("conv", {1, 3, 1, stride});
  } else if (s.kind == CosmosKind::kBase) {
    if (space_) conv_ = make("conv", {3, 3, stride, stride});
  } else {
    if (space_) conv_space_ = make(down ? "conv1" : "conv2", {1, 3, 1, stride});
    if (time_) conv_time_ = make(down ? "conv2" : "conv1", {3, 1, stride, 1});
    conv3_ = make("conv3", {});
  }
}

at::Tensor CosmosResample3d::operator()(at::Tensor x, CosmosPass& pass) const {
  return direction_ == Direction::kDown ? down(std::move(x), pass) : up(std::move(x), pass);
}

at::Tensor CosmosResample3d::down(at::Tensor x, CosmosPass& pass) const {
  const auto pad = [](const at::Tensor& t) { return at::constant_pad_nd(t, {0, 0, 0, 1, 0, 1}); };  // right and below
  if (conv_) return (*conv_)(pad(x), pass);
  if (space_) {
    const int64_t T = x.size(0), B = x.size(1), H = x.size(2), W = x.size(3), C = x.size(4);
    const at::Tensor pooled = x.view({T, B, H / 2, 2, W / 2, 2, C}).mean(at::IntArrayRef{3, 5});
    x = (*conv_space_)(pad(x), pass).add_(pooled);
  }
  if (time_) {
    // Pairs of frames, the first of a clip with itself.
    const at::Tensor pairs = pass.first ? at::cat({x.slice(0, 0, 1), x}) : x;
    const at::Tensor pooled = pairs.view({pairs.size(0) / 2, 2, x.size(1), x.size(2), x.size(3), x.size(4)}).mean(1);
    x = conv_time_ ? (*conv_time_)(x, pass).add_(pooled) : pooled;
  }
  return conv3_ ? (*conv3_)(x, pass) : x;
}

at::Tensor CosmosResample3d::up(at::Tensor x, CosmosPass& pass) const {
  const auto widen = [](const at::Tensor& t) { return t.repeat_interleave(2, 2).repeat_interleave(2, 3); };
  if (conv_) return (*conv_)(widen(time_ ? repeat_time(x, pass.first) : x), pass);
  if (time_) {
    x = repeat_time(x, pass.first);
    if (conv_time_) x = (*conv_time_)(x, pass).add_(x);
  }
  if (space_) x = conv_space_->over_doubled(x);
  return conv3_ ? (*conv3_)(x, pass) : x;
}

CosmosLevelBlock3d::CosmosLevelBlock3d(const Weights& weights, const CosmosLayerSetting& s, int64_t in, int64_t blocks,
                                       const CosmosLevel& level, CosmosResample3d::Direction direction) {
  for (int64_t j = 0; j < blocks; ++j) {
    block_.emplace_back(weights.sub(s.names.diffusers ? "resnets" : "block", j), s, j == 0 ? in : level.width, level.width);
    if (!level.attention) continue;
    if (s.names.diffusers) {
      attn_.push_back(make_attention(weights.sub("attentions", j), weights.sub("temp_attentions", j), s, level.width));
    } else {
      const std::string name = "attn." + std::to_string(j);
      attn_.push_back(make_attention(weights.sub(name + attention_part(s, "0")), weights.sub(name + ".1"), s, level.width));
    }
  }
  if (level.space || level.time) {
    const char* const name = direction == CosmosResample3d::Direction::kDown ? "downsample" : "upsample";
    const std::string part = s.names.diffusers ? std::string(name) + "rs.0" : std::string(name);
    resample_.emplace(weights.sub(part), s, level.width, level, direction);
  }
}

at::Tensor CosmosLevelBlock3d::operator()(at::Tensor x, CosmosPass& pass) const {
  for (size_t j = 0; j < block_.size(); ++j) {
    x = block_[j](x, pass);
    if (attn_.empty()) continue;
    for (const CosmosCausalAttention& attention : attn_[j]) x = attention(x, pass);
  }
  return resample_ ? (*resample_)(x, pass) : x;
}

CosmosEncoder3d::CosmosEncoder3d(const Weights& weights, const CosmosNetworkPlan& plan, const CosmosTensorNames& names,
                                 CosmosSlots& slots)
    : conv_in_(weights.sub("conv_in"), plan.kind, names, plan.patch_channels(), plan.stem, slots, cosmos_haar(plan, false)),
      down_(make_levels(weights, plan, {plan.kind, names, plan.groups, slots}, CosmosResample3d::Direction::kDown)),
      mid_(weights.sub(names.diffusers ? "mid_block" : "mid"), {plan.kind, names, plan.groups, slots},
           plan.levels.back().width),
      norm_out_(weights.sub("norm_out" + names.norm), plan.kind, plan.levels.back().width, plan.groups),
      conv_out_(weights.sub("conv_out"), plan.kind, names, plan.levels.back().width, plan.z_channels, slots) {}

at::Tensor CosmosEncoder3d::operator()(at::Tensor x, CosmosPass& pass) const {
  x = conv_in_(std::move(x), pass);
  for (const CosmosLevelBlock3d& level : down_) x = level(std::move(x), pass);
  return conv_out_(norm_out_.silu(mid_(std::move(x), pass)), pass);
}

CosmosDecoder3d::CosmosDecoder3d(const Weights& weights, const CosmosNetworkPlan& plan, const CosmosTensorNames& names,
                                 CosmosSlots& slots)
    : conv_in_(weights.sub("conv_in"), plan.kind, names, plan.z_channels, plan.stem, slots),
      mid_(weights.sub(names.diffusers ? "mid_block" : "mid"), {plan.kind, names, plan.groups, slots}, plan.stem),
      up_(make_levels(weights, plan, {plan.kind, names, plan.groups, slots}, CosmosResample3d::Direction::kUp)),
      norm_out_(weights.sub("norm_out" + names.norm), plan.kind, plan.levels.back().width, plan.groups),
      conv_out_(weights.sub("conv_out"), plan.kind, names, plan.levels.back().width, plan.patch_channels(), slots, {},
                cosmos_haar(plan, true)) {}

at::Tensor CosmosDecoder3d::operator()(at::Tensor x, CosmosPass& pass) const {
  x = mid_(conv_in_(std::move(x), pass), pass);
  for (const CosmosLevelBlock3d& level : up_) x = level(std::move(x), pass);
  return conv_out_(norm_out_.silu(x), pass);
}

}  // namespace orrery::models

#include "models/genie/vq_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

namespace orrery::models {
namespace {

using layers::Conv2d;

constexpr int64_t kGroups = 32;
constexpr double kEps = 1e-6;

// A checkpoint of training holds averaged copies, under the name without its dots, and the original runs with those.
Weights averaged(const Weights& weights) {
  std::map<std::string, std::string> names;
  for (const std::string& name : weights.names()) {
    if (!name.starts_with("encoder.") && !name.starts_with("decoder.")) continue;
    std::string flat = name;
    std::erase(flat, '.');
    if (weights.has("model_ema." + flat)) {
      names[name] = "model_ema." + flat;
      weights.ignore(name);
    }
  }
  for (const char* other : {"loss", "model_ema.decay", "model_ema.num_updates", "quantize"}) weights.ignore(other);
  return names.empty() ? weights : weights.renamed(names);
}

// [N,4C,h,w] → [N,C,2h,2w]; where in the square a channel goes is the slow part of its number.
at::Tensor depth_to_space(const at::Tensor& x) {
  return x.unflatten(1, {2, 2, -1}).permute({0, 3, 4, 1, 5, 2}).flatten(4, 5).flatten(2, 3);
}

}  // namespace

VqNorm::VqNorm(const Weights& weights, int64_t channels)
    : weight_(weights.get("weight", {channels})), bias_(weights.get("bias", {channels})) {}

at::Tensor VqNorm::operator()(const at::Tensor& x) const {
  return at::silu(at::group_norm(x, kGroups, weight_, bias_, kEps));
}

VqBlock::VqBlock(const Weights& weights, int64_t in, int64_t out)
    : norm1_(weights.sub("norm1"), in),
      norm2_(weights.sub("norm2"), out),
      conv1_(weights.sub("conv1"), {.in = in, .out = out, .bias = false}),
      conv2_(weights.sub("conv2"), {.in = out, .out = out, .bias = false}) {
  if (in != out)
    nin_shortcut_.emplace(weights.sub("nin_shortcut"),
                          layers::Conv2dSizes{.in = in, .out = out, .kernel = 1, .bias = false});
}

at::Tensor VqBlock::operator()(const at::Tensor& x) const {
  return conv2_(norm2_(conv1_(norm1_(x)))).add_(nin_shortcut_ ? (*nin_shortcut_)(x) : x);
}

VQModel::VQModel(const Config& config, const Weights& stored) : dtype_(stored.dtype()) {
  const auto base = config.get<int64_t>("base_channels", 128), blocks = config.get<int64_t>("num_res_blocks", 2);
  const auto bits = config.get<int64_t>("z_channels", 18);
  const auto mult = config.get("ch_mult", std::vector<int64_t>{1, 1, 2, 2, 4});
  config.check(base > 0 && base % kGroups == 0, "base_channels", "a multiple of " + std::to_string(kGroups));
  config.check(blocks > 0, "num_res_blocks", "a number above 0");
  config.check(bits > 0 && bits < 31, "z_channels", "1 … 30 bits");
  config.check(!mult.empty() && std::ranges::all_of(mult, [](int64_t m) { return m > 0; }), "ch_mult", "numbers above 0");
  const Weights weights = averaged(stored), encoder = weights.sub("encoder"), decoder = weights.sub("decoder");
  const auto last = static_cast<int64_t>(mult.size()) - 1;
  const int64_t deepest = base * mult.back();

  int64_t width = base;
  encoder_.conv_in.emplace_back(encoder.sub("conv_in"), layers::Conv2dSizes{.in = 3, .out = base, .bias = false});
  for (int64_t level = 0; level <= last; ++level) {
    const Weights part = encoder.sub("down", level);
    Stage stage;
    // The reference counts a level's input from the configuration, which is what the level before it gave.
    for (int64_t i = 0; i < blocks; ++i, width = base * mult[level])
      stage.blocks.emplace_back(part.sub("block", i), width, base * mult[level]);
    if (level < last)
      stage.scale.emplace(part.sub("downsample"), layers::Conv2dSizes{.in = width, .out = width, .stride = 2});
    encoder_.stages.push_back(std::move(stage));
  }
  for (int64_t i = 0; i < blocks; ++i) encoder_.mid.emplace_back(encoder.sub("mid_block", i), deepest, deepest);
  encoder_.norm_out.emplace_back(encoder.sub("norm_out"), deepest);
  encoder_.conv_out.emplace_back(encoder.sub("conv_out"), layers::Conv2dSizes{.in = deepest, .out = bits, .kernel = 1});

  decoder_.conv_in.emplace_back(decoder.sub("conv_in"), layers::Conv2dSizes{.in = bits, .out = deepest});
  for (int64_t i = 0; i < blocks; ++i) decoder_.mid.emplace_back(decoder.sub("mid_block", i), deepest, deepest);
  width = deepest;
  for (int64_t level = last; level >= 0; --level) {
    const Weights part = decoder.sub("up", level);
    Stage stage;
    for (int64_t i = 0; i < blocks; ++i, width = base * mult[level])
      stage.blocks.emplace_back(part.sub("block", i), width, base * mult[level]);
    if (level > 0) stage.scale.emplace(part.sub("upsample.conv1"), layers::Conv2dSizes{.in = width, .out = 4 * width});
    decoder_.stages.push_back(std::move(stage));
  }
  decoder_.norm_out.emplace_back(decoder.sub("norm_out"), width);
  decoder_.conv_out.emplace_back(decoder.sub("conv_out"), layers::Conv2dSizes{.in = width, .out = 3});

  base_channels_ = base;
  spec_.spatial_stride = int64_t{1} << last;
  spec_.latent_channels = bits;
  spec_.vocabulary = int64_t{1} << bits;
  spec_.image = true;
}

// A handful of copies of one frame at its finest level.
int64_t VQModel::work_bytes(at::IntArrayRef latents) const {
  const int64_t pixels = latents[3] * latents[4] * spec_.spatial_stride * spec_.spatial_stride;
  return static_cast<int64_t>(c10::elementSize(dtype_)) * latents[0] * 6 * base_channels_ * pixels;
}

Encoded VQModel::encode_chunk(const at::Tensor& sample, CodecCache& cache, bool /*last*/) const {
  const int64_t batch = sample.size(0), frames = sample.size(2), side = spec_.spatial_stride;
  cache.position += frames;
  if (frames == 0) {
    const int64_t h = sample.size(3) / side, w = sample.size(4) / side;
    return {at::empty({batch, spec_.latent_channels, 0, h, w}, sample.options()),
            at::empty({batch, 0, h, w}, sample.options().dtype(at::kInt))};
  }
  auto x = encoder_.conv_in[0](sample.transpose(1, 2).flatten(0, 1).to(dtype_));  // [B·T,C,H,W]
  for (const Stage& stage : encoder_.stages) {
    for (const VqBlock& block : stage.blocks) x = block(x);
    if (stage.scale) x = (*stage.scale)(x);
  }
  for (const VqBlock& block : encoder_.mid) x = block(x);
  const auto positive = encoder_.conv_out[0](encoder_.norm_out[0](x)).gt(0).unflatten(0, {batch, frames});  // [B,T,bits,h,w]
  at::Tensor indices = at::zeros_like(positive.select(2, 0), at::kInt);
  for (int64_t bit = 0; bit < spec_.latent_channels; ++bit) indices = indices * 2 + positive.select(2, bit).to(at::kInt);
  const auto codes = positive.transpose(1, 2).to(at::kFloat).mul_(2).sub_(1).contiguous();
  return {.latent = codes, .indices = indices.contiguous()};
}

at::Tensor VQModel::decode_chunk(const at::Tensor& latent, CodecCache& cache, bool /*last*/) const {
  const int64_t batch = latent.size(0), frames = latent.size(2), side = spec_.spatial_stride;
  cache.position += frames;
  if (frames == 0) return at::empty({batch, 3, 0, latent.size(3) * side, latent.size(4) * side}, latent.options());
  auto x = decoder_.conv_in[0](latent.transpose(1, 2).flatten(0, 1).to(dtype_));
  for (const VqBlock& block : decoder_.mid) x = block(x);
  for (const Stage& stage : decoder_.stages) {
    for (const VqBlock& block : stage.blocks) x = block(x);
    if (stage.scale) x = depth_to_space((*stage.scale)(x));
  }
  x = decoder_.conv_out[0](decoder_.norm_out[0](x));
  return x.unflatten(0, {batch, frames}).transpose(1, 2).contiguous();
}

at::Tensor VQModel::codes_of(const at::Tensor& indices) const {
  const int64_t bits = spec_.latent_channels;
  const auto places = at::pow(2, at::arange(bits - 1, -1, -1, indices.options().dtype(at::kLong))).view({bits, 1, 1, 1});
  const auto rows = indices.to(at::kLong).unsqueeze(1).div(places, "floor").remainder(2);  // [B,bits,t,h,w]
  return rows.to(at::kFloat).mul_(2).sub_(1);
}

std::optional<Config> describe_vq_model(const Weights& weights) {
  const auto rows = [&](const std::string& name) {
    const auto shape = weights.shape(name);
    return shape && shape->size() == 4 ? (*shape)[0] : 0;
  };
  const int64_t base = rows("encoder.conv_in.weight"), bits = rows("encoder.conv_out.weight");
  if (base == 0 || bits == 0 || !weights.has("encoder.mid_block.0.conv1.weight") ||
      !weights.has("decoder.up.1.upsample.conv1.weight"))
    return std::nullopt;
  int64_t blocks = 0;
  while (weights.has("encoder.down.0.block." + std::to_string(blocks) + ".conv1.weight")) ++blocks;
  std::vector<int64_t> mult;
  for (int64_t width; (width = rows("encoder.down." + std::to_string(mult.size()) + ".block.0.conv1.weight")) > 0;)
    mult.push_back(width / base);
  return Config()
      .with("_class_name", std::string("VQModel"))
      .with("base_channels", base)
      .with("num_res_blocks", blocks)
      .with("z_channels", bits)
      .with("ch_mult", mult);
}

std::unique_ptr<Component> build_vq_model(const Config& config, const Weights& weights) {
  return std::make_unique<VQModel>(config, weights);
}

}  // namespace orrery::models

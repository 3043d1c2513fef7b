#include "models/tiny/autoencoder_kl.h"

#include <ATen/ATen.h>

#include <utility>

#include "orrery/error.h"

namespace orrery::models {
namespace {

using layers::Conv2d;

constexpr double kEps = 1e-6;

void check_blocks(const Config& config, const char* key, const std::string& known) {
  for (const auto& type : config.get<std::vector<std::string>>(key, {})) {
    if (type == known) continue;
    throw Error(
        ErrorKind::kUnsupported,
        {.place = config.place() + ": " + key, .what = "holds a block of another kind", .expected = known, .got = type});
  }
}

}  // namespace

KlNorm::KlNorm(const Weights& weights, int64_t channels, int64_t groups)
    : groups_(groups), weight_(weights.get("weight", {channels})), bias_(weights.get("bias", {channels})) {}

at::Tensor KlNorm::norm(const at::Tensor& x) const {
  return at::group_norm(x, groups_, weight_, bias_, kEps);
}

at::Tensor KlNorm::operator()(const at::Tensor& x) const {
  return at::silu(norm(x));
}

KlResnet::KlResnet(const Weights& weights, int64_t in, int64_t out, int64_t groups)
    : norm1_(weights.sub("norm1"), in, groups),
      conv1_(weights.sub("conv1"), {.in = in, .out = out}),
      norm2_(weights.sub("norm2"), out, groups),
      conv2_(weights.sub("conv2"), {.in = out, .out = out}) {
  if (in != out)
    conv_shortcut_.emplace(weights.sub("conv_shortcut"), layers::Conv2dSizes{.in = in, .out = out, .kernel = 1});
}

at::Tensor KlResnet::operator()(const at::Tensor& x) const {
  return conv2_(norm2_(conv1_(norm1_(x)))).add_(conv_shortcut_ ? (*conv_shortcut_)(x) : x);
}

KlAttention::Projection KlAttention::read(const Weights& weights, const char* name, const char* old_name, int64_t channels) {
  const auto part = weights.sub(weights.has_prefix(old_name) ? old_name : name);
  const bool pointwise = part.shape("weight").value_or(std::vector<int64_t>()).size() == 4;
  const auto weight =
      pointwise ? part.get("weight", {channels, channels, 1, 1}).flatten(1) : part.get("weight", {channels, channels});
  return {weight, part.get("bias", {channels})};
}

KlAttention::KlAttention(const Weights& weights, int64_t channels, int64_t groups)
    : group_norm_(weights.sub("group_norm"), channels, groups),
      to_q_(read(weights, "to_q", "query", channels)),
      to_k_(read(weights, "to_k", "key", channels)),
      to_v_(read(weights, "to_v", "value", channels)),
      to_out_(read(weights, "to_out.0", "proj_attn", channels)) {}

at::Tensor KlAttention::operator()(const at::Tensor& x) const {
  const auto places = group_norm_.norm(x).flatten(2).transpose(1, 2);  // [N,H·W,C]
  const auto project = [&](const Projection& p) { return at::linear(places, p.weight, p.bias).unsqueeze(1); };
  const auto seen = at::scaled_dot_product_attention(project(to_q_), project(to_k_), project(to_v_)).squeeze(1);
  return x + at::linear(seen, to_out_.weight, to_out_.bias).transpose(1, 2).view_as(x);
}

at::Tensor AutoencoderKL::Mid::operator()(at::Tensor x) const {
  x = resnets[0](x);
  if (attention) x = (*attention)(x);
  return resnets[1](x);
}

AutoencoderKL::Mid AutoencoderKL::read_mid(const Weights& weights, int64_t channels, int64_t groups, bool attention) {
  Mid mid;
  for (int64_t i : {0, 1}) mid.resnets.emplace_back(weights.sub("resnets", i), channels, channels, groups);
  if (attention) mid.attention.emplace(weights.sub("attentions.0"), channels, groups);
  return mid;
}

AutoencoderKL::AutoencoderKL(const Config& config, const Weights& weights) : dtype_(weights.dtype()) {
  const auto widths = config.get("block_out_channels", std::vector<int64_t>{64});
  const auto latent_channels = config.get<int64_t>("latent_channels", 4),
             resnets = config.get<int64_t>("layers_per_block", 1);
  const auto groups = config.get<int64_t>("norm_num_groups", 32);
  const bool attention = config.get("mid_block_add_attention", true);
  check_blocks(config, "down_block_types", "DownEncoderBlock2D");
  check_blocks(config, "up_block_types", "UpDecoderBlock2D");
  if (const auto activation = config.get("act_fn", std::string("silu")); activation != "silu" && activation != "swish")
    throw Error(ErrorKind::kUnsupported,
                {.place = config.place() + ": act_fn", .what = "is not supported", .expected = "silu", .got = activation});
  const auto last = static_cast<int64_t>(widths.size()) - 1;

  const auto encoder = weights.sub("encoder"), decoder = weights.sub("decoder");
  encoder_.conv_in.emplace(encoder.sub("conv_in"), layers::Conv2dSizes{.in = 3, .out = widths.front()});
  for (int64_t i = 0; i <= last; ++i) {
    const auto block = encoder.sub("down_blocks", i);
    Stage stage;
    for (int64_t j = 0; j < resnets; ++j)
      stage.resnets.emplace_back(block.sub("resnets", j), j == 0 && i > 0 ? widths[i - 1] : widths[i], widths[i], groups);
    if (i < last) {
      const auto conv = block.sub("downsamplers.0.conv");
      stage.down.emplace(conv.get("weight", {widths[i], widths[i], 3, 3}), conv.get("bias", {widths[i]}), /*stride=*/2,
                         /*padding=*/0);
    }
    encoder_.stages.push_back(std::move(stage));
  }
  encoder_.mid = read_mid(encoder.sub("mid_block"), widths.back(), groups, attention);
  encoder_.conv_norm_out.emplace(encoder.sub("conv_norm_out"), widths.back(), groups);
  encoder_.conv_out.emplace(encoder.sub("conv_out"), layers::Conv2dSizes{.in = widths.back(), .out = 2 * latent_channels});

  decoder_.conv_in.emplace(decoder.sub("conv_in"), layers::Conv2dSizes{.in = latent_channels, .out = widths.back()});
  decoder_.mid = read_mid(decoder.sub("mid_block"), widths.back(), groups, attention);
  for (int64_t i = 0; i <= last; ++i) {
    const auto block = decoder.sub("up_blocks", i);
    const int64_t width = widths[last - i];
    Stage stage;
    for (int64_t j = 0; j <= resnets; ++j)
      stage.resnets.emplace_back(block.sub("resnets", j), j == 0 && i > 0 ? widths[last - i + 1] : width, width, groups);
    if (i < last) {
      const auto conv = block.sub("upsamplers.0.conv");
      stage.up.emplace(conv.get("weight", {width, width, 3, 3}));
      stage.up_bias = conv.get("bias", {width}).view({-1, 1, 1});
    }
    decoder_.stages.push_back(std::move(stage));
  }
  decoder_.conv_norm_out.emplace(decoder.sub("conv_norm_out"), widths.front(), groups);
  decoder_.conv_out.emplace(decoder.sub("conv_out"), layers::Conv2dSizes{.in = widths.front(), .out = 3});
  if (config.get("use_quant_conv", true))
    quant_conv_.emplace(weights.sub("quant_conv"),
                        layers::Conv2dSizes{.in = 2 * latent_channels, .out = 2 * latent_channels, .kernel = 1});
  if (config.get("use_post_quant_conv", true))
    post_quant_conv_.emplace(weights.sub("post_quant_conv"),
                             layers::Conv2dSizes{.in = latent_channels, .out = latent_channels, .kernel = 1});

  spec_.spatial_stride = int64_t{1} << last;
  spec_.latent_channels = latent_channels;
  spec_.image = true;
  normalization_.scale = config.get("scaling_factor", 0.18215);
  if (const double shift = config.get("shift_factor", 0.0); shift != 0) {
    normalization_.mean = at::full({latent_channels}, shift);
    normalization_.std = at::ones({latent_channels});
  }
}

at::Tensor AutoencoderKL::encode_pictures(const at::Tensor& pictures) const {
  auto x = (*encoder_.conv_in)(pictures);
  for (const auto& stage : encoder_.stages) {
    for (const auto& resnet : stage.resnets) x = resnet(x);
    // The reference pads right and below only.
    if (stage.down) x = (*stage.down)(at::constant_pad_nd(x, {0, 1, 0, 1}));
  }
  x = (*encoder_.conv_out)((*encoder_.conv_norm_out)((*encoder_.mid)(x)));
  if (quant_conv_) x = (*quant_conv_)(x);
  return x.narrow(1, 0, spec_.latent_channels);  // the mean; the other half is the log variance
}

at::Tensor AutoencoderKL::decode_pictures(const at::Tensor& latents) const {
  auto x = (*decoder_.conv_in)(post_quant_conv_ ? (*post_quant_conv_)(latents) : latents);
  x = (*decoder_.mid)(x);
  for (const auto& stage : decoder_.stages) {
    for (const auto& resnet : stage.resnets) x = resnet(x);
    if (stage.up) x = (*stage.up)(x, /*batch=*/x.size(0)).add_(stage.up_bias);
  }
  return (*decoder_.conv_out)((*decoder_.conv_norm_out)(x));
}

Encoded AutoencoderKL::encode_chunk(const at::Tensor& sample, CodecCache& cache, bool /*last*/) const {
  const int64_t batch = sample.size(0), frames = sample.size(2), side = spec_.spatial_stride;
  cache.position += frames;
  if (frames == 0)
    return {.latent = at::empty({batch, spec_.latent_channels, 0, sample.size(3) / side, sample.size(4) / side},
                                sample.options())};
  const auto latents = encode_pictures(sample.transpose(1, 2).flatten(0, 1).to(dtype_));  // [B·T,C,h,w]
  return {.latent = latents.unflatten(0, {batch, frames}).transpose(1, 2).contiguous()};
}

at::Tensor AutoencoderKL::decode_chunk(const at::Tensor& latent, CodecCache& cache, bool /*last*/) const {
  const int64_t batch = latent.size(0), frames = latent.size(2), side = spec_.spatial_stride;
  cache.position += frames;
  if (frames == 0) return at::empty({batch, 3, 0, latent.size(3) * side, latent.size(4) * side}, latent.options());
  const auto pictures = decode_pictures(latent.transpose(1, 2).flatten(0, 1).to(dtype_));  // [B·t,3,H,W]
  return pictures.unflatten(0, {batch, frames}).transpose(1, 2).contiguous();
}

std::unique_ptr<Component> build_autoencoder_kl(const Config& config, const Weights& weights) {
  return std::make_unique<AutoencoderKL>(config, weights);
}

}  // namespace orrery::models

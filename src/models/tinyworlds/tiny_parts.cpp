#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "layers/norm.h"
#include "models/tinyworlds/tiny_world.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kEps = 1e-5;

}  // namespace

TinyPointwise::TinyPointwise(const Weights& weights, int64_t in, int64_t out)
    : weight(weights.get("weight", {out, in, 1, 1}).flatten(1)), bias(weights.get("bias", {out})) {}

at::Tensor TinyPointwise::operator()(const at::Tensor& x) const {
  return at::linear(x, weight, bias);
}

TinyPatchEmbedding::TinyPatchEmbedding(const Weights& weights, const TinyWorldConfig& config)
    : patch_(config.patch_size),
      proj_(weights.sub("proj"), 3 * config.patch_size * config.patch_size, config.embed_dim),
      positions_(tiny_positions(config).to(weights.device())) {}

at::Tensor TinyPatchEmbedding::operator()(const at::Tensor& frames) const {
  const auto patches = frames.transpose(1, 2).unflatten(4, {-1, patch_}).unflatten(3, {-1, patch_});  // [B,T,3,hp,p,wp,p]
  return proj_(patches.permute({0, 1, 3, 5, 2, 4, 6}).flatten(4).flatten(2, 3)) + positions_;
}

TinyHead::TinyHead(const Weights& weights, const char* norm, const char* linear, int64_t in, int64_t out)
    : weight_(weights.get(std::string(norm) + ".weight", {in})),
      bias_(weights.get(std::string(norm) + ".bias", {in})),
      linear_(weights.sub(linear), in, out, true) {}

at::Tensor TinyHead::operator()(const at::Tensor& x) const {
  return linear_(layers::layer_norm(x, kEps, weight_, bias_));
}

int64_t TinyQuantizer::vocabulary() const {
  int64_t count = 1;
  for (int64_t i = 0; i < dim; ++i) count *= bins;
  return count;
}

at::Tensor TinyQuantizer::digits(const at::Tensor& z) const {
  return at::round((z.tanh() + 1) * 0.5 * static_cast<double>(bins - 1)).to(at::kLong);
}

at::Tensor TinyQuantizer::values(const at::Tensor& digits) const {
  return digits.to(at::kFloat) * 2 / static_cast<double>(bins - 1) - 1;
}

at::Tensor TinyQuantizer::index(const at::Tensor& digits) const {
  return (digits * at::pow(at::Scalar(bins), at::arange(dim, digits.options().dtype(at::kLong)))).sum(-1);
}

at::Tensor TinyQuantizer::digits_of(const at::Tensor& index) const {
  const auto places = at::pow(at::Scalar(bins), at::arange(dim, index.options().dtype(at::kLong)));
  return index.to(at::kLong).unsqueeze(-1).div(places, "floor").remainder(bins);
}

TinyVideoTokenizer::TinyVideoTokenizer(const Config& config, const Weights& weights)
    : config_(TinyWorldConfig::from(config)),
      quantizer_{config_.latent_dim, config_.num_bins},
      patch_embed_(weights.sub("encoder.patch_embed"), config_),
      encoder_(weights.sub("encoder.transformer"), config_),
      decoder_(weights.sub("decoder.transformer"), config_),
      latent_head_(weights.sub("encoder.latent_head"), "0", "1", config_.embed_dim, config_.latent_dim),
      latent_embed_(weights.sub("decoder.latent_embed"), config_.latent_dim, config_.embed_dim, true),
      to_pixels_(weights.sub("decoder.frame_head.to_pixels"), config_.embed_dim,
                 3 * config_.patch_size * config_.patch_size),
      positions_(tiny_positions(config_).to(weights.device())) {
  weights.ignore("quantizer.basis");
  spec_.spatial_stride = config_.patch_size;
  spec_.latent_channels = config_.latent_dim;
  spec_.vocabulary = quantizer_.vocabulary();
}

// The transformer over the whole clip; and its pixels, as patches and as frames.
int64_t TinyVideoTokenizer::work_bytes(at::IntArrayRef latents) const {
  const int64_t tokens = latents[0] * latents[2] * latents[3] * latents[4];
  const int64_t pixels = 2 * 3 * config_.patch_size * config_.patch_size;
  return static_cast<int64_t>(sizeof(float)) * tokens * (decoder_.width_at_once() + pixels);
}

// A frame's code depends on those before it and on its place in the clip, so the cache holds the clip so far.
Encoded TinyVideoTokenizer::encode_chunk(const at::Tensor& sample, CodecCache& cache, bool /*last*/) const {
  if (sample.size(3) != config_.frame_size || sample.size(4) != config_.frame_size)
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + ": sample",
                 .what = "has another size than the network's",
                 .expected = std::to_string(config_.frame_size) + "x" + std::to_string(config_.frame_size),
                 .got = std::to_string(sample.size(3)) + "x" + std::to_string(sample.size(4))});
  const int64_t side = config_.side(), fresh = sample.size(2);
  cache.slots.resize(1);
  cache.slots[0] = cache.slots[0].defined() ? at::cat({cache.slots[0], sample}, 2) : sample;
  cache.position += fresh;
  const auto z = latent_head_(encoder_(patch_embed_(cache.slots[0])));                              // [B,T,P,L]
  const auto digits = quantizer_.digits(z).slice(1, z.size(1) - fresh).unflatten(2, {side, side});  // [B,t,h,w,L]
  return {.latent = quantizer_.values(digits).permute({0, 4, 1, 2, 3}).contiguous(),
          .indices = quantizer_.index(digits).to(at::kInt)};
}

at::Tensor TinyVideoTokenizer::decode_chunk(const at::Tensor& latent, CodecCache& cache, bool /*last*/) const {
  const int64_t side = config_.side(), fresh = latent.size(2), patch = config_.patch_size;
  cache.slots.resize(1);
  cache.slots[0] = cache.slots[0].defined() ? at::cat({cache.slots[0], latent}, 2) : latent;
  cache.position += fresh;
  const auto codes = cache.slots[0].permute({0, 2, 3, 4, 1}).flatten(2, 3);  // [B,T,P,L]
  const auto patches = to_pixels_(decoder_(latent_embed_(codes) + positions_)).slice(1, codes.size(1) - fresh);
  return patches.unflatten(3, {3, patch, patch})
      .unflatten(2, {side, side})  // [B,t,hp,wp,3,p,p]
      .permute({0, 4, 1, 2, 5, 3, 6})
      .flatten(5, 6)
      .flatten(3, 4)
      .contiguous();
}

at::Tensor TinyVideoTokenizer::codes_of(const at::Tensor& indices) const {
  return quantizer_.values(quantizer_.digits_of(indices)).permute({0, 4, 1, 2, 3}).contiguous();
}

namespace {

TinyWorldConfig unconditioned(const Config& config) {
  TinyWorldConfig c = TinyWorldConfig::from(config);
  c.action_dim = 0;
  return c;
}

int64_t rows(const Weights& weights, const char* name) {
  const auto shape = weights.shape(name);
  return shape && !shape->empty() ? (*shape)[0] : 0;
}

}  // namespace

TinyLatentActions::TinyLatentActions(const Config& config, const Weights& weights)
    : quantizer_{rows(weights, "encoder.action_head.3.weight"), 2},
      patch_embed_(weights.sub("encoder.patch_embed"), unconditioned(config)),
      transformer_(weights.sub("encoder.transformer"), unconditioned(config)),
      head_(weights.sub("encoder.action_head"), "0", "1", 2 * unconditioned(config).embed_dim, 4 * quantizer_.dim),
      out_(weights.sub("encoder.action_head.3"), 4 * quantizer_.dim, quantizer_.dim, true) {
  for (const char* training : {"decoder", "quantizer.basis"}) weights.ignore(training);
}

at::Tensor TinyLatentActions::encode(const at::Tensor& frames) const {
  const auto pooled = transformer_(patch_embed_(frames)).mean(2);  // [B,T,E]
  const int64_t steps = pooled.size(1) - 1;
  const auto pairs = at::cat({pooled.narrow(1, 0, steps), pooled.narrow(1, 1, steps)}, 2);
  return quantizer_.values(quantizer_.digits(out_(at::gelu(head_(pairs)))));
}

TensorMap TinyLatentActions::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  const c10::InferenceMode inference;
  if (function != "encode")
    throw Error(ErrorKind::kArgument, {.place = "latent_actions." + function,
                                       .what = "is no function of " + class_name(),
                                       .expected = "latent_actions.encode"});
  return {{"actions", encode(require_input(inputs, "sample", "latent_actions.encode")).contiguous()}};
}

std::unique_ptr<Component> build_tiny_video_tokenizer(const Config& config, const Weights& weights) {
  return std::make_unique<TinyVideoTokenizer>(config, weights);
}

std::unique_ptr<Component> build_tiny_latent_actions(const Config& config, const Weights& weights) {
  return std::make_unique<TinyLatentActions>(config, weights);
}

}  // namespace orrery::models

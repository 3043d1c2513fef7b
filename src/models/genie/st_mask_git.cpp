#include "models/genie/st_mask_git.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "layers/norm.h"
#include "orrery/error.h"
#include "orrery/noise.h"
#include "orrery/token_dynamics.h"

namespace orrery::models {
namespace {

constexpr double kEps = 1e-5;
constexpr int64_t kMupBase = 256;  // the width at which the reference's muP scales are 1

[[noreturn]] void wrong(const std::string& place, const std::string& what, const std::string& expected,
                        const std::string& got) {
  throw Error(ErrorKind::kArgument, {.place = place, .what = what, .expected = expected, .got = got});
}

int64_t root_of(int64_t value, int64_t degree) {
  return std::llround(std::pow(static_cast<double>(value), 1.0 / static_cast<double>(degree)));
}

}  // namespace

GenieConfig GenieConfig::from(const Config& config) {
  GenieConfig c;
  c.num_layers = config.require<int64_t>("num_layers");
  c.num_heads = config.require<int64_t>("num_heads");
  c.d_model = config.require<int64_t>("d_model");
  c.T = config.get("T", c.T);
  c.S = config.get("S", c.S);
  c.image_vocab_size = config.get("image_vocab_size", c.image_vocab_size);
  c.num_factored_vocabs = config.get("num_factored_vocabs", c.num_factored_vocabs);
  c.use_mup = config.get("use_mup", c.use_mup);
  c.qkv_bias = config.get("qkv_bias", c.qkv_bias);
  c.proj_bias = config.get("proj_bias", c.proj_bias);
  c.qk_norm = config.get("qk_norm", c.qk_norm);
  c.mlp_bias = config.get("mlp_bias", c.mlp_bias);
  c.mlp_ratio = config.get("mlp_ratio", c.mlp_ratio);
  config.check(c.num_layers > 0 && c.d_model > 0 && c.T > 1 && c.S > 0, "d_model", "sizes above 0");
  config.check(c.num_heads > 0 && c.d_model % c.num_heads == 0, "num_heads", "a divisor of d_model");
  config.check(root_of(c.S, 2) * root_of(c.S, 2) == c.S, "S", "a square");
  config.check(c.num_factored_vocabs > 0 && c.image_vocab_size > 0, "num_factored_vocabs", "a number above 0");
  c.factored_vocab_size = root_of(c.image_vocab_size, c.num_factored_vocabs);
  int64_t whole = 1;
  for (int64_t i = 0; i < c.num_factored_vocabs; ++i) whole *= c.factored_vocab_size;
  config.check(whole == c.image_vocab_size, "image_vocab_size", "a whole power of the values of a digit");
  return c;
}

GenieNorm::GenieNorm(const Weights& weights, int64_t size)
    : weight(weights.get("weight", {size})), bias(weights.get("bias", {size})) {}

at::Tensor GenieNorm::operator()(const at::Tensor& x) const {
  return weight.defined() ? layers::layer_norm(x, kEps, weight, bias) : x;
}

GenieAttention::GenieAttention(const Weights& weights, const GenieConfig& config)
    : heads_(config.num_heads),
      qkv_(weights.sub("qkv"), config.d_model, 3 * config.d_model, config.qkv_bias),
      proj_(weights.sub("proj"), config.d_model, config.d_model, config.proj_bias) {
  const auto head = static_cast<double>(config.d_model / config.num_heads);
  scale_ = config.use_mup ? 8 / head : 1 / std::sqrt(head);
  if (config.qk_norm) norm_.emplace(weights.sub("norm"), config.d_model / config.num_heads);
}

at::Tensor GenieAttention::operator()(const at::Tensor& x, const GenieTimes* times, GenieTimes* grown) const {
  const auto qkv = qkv_(x).unflatten(-1, {3, heads_, -1}).permute({2, 0, 3, 1, 4});  // [3,N,heads,n,D']
  at::Tensor q = qkv[0], k = qkv[1], v = qkv[2];
  if (norm_) {
    q = (*norm_)(q);
    k = (*norm_)(k);
  }
  std::optional<at::Tensor> mask;
  if (times) {
    if (times->keys.defined()) {
      k = at::cat({times->keys, k}, 2);
      v = at::cat({times->values, v}, 2);
    }
    if (grown) *grown = {k, v};
    const int64_t past = k.size(2) - q.size(2);
    if (q.size(2) > 1) mask = at::ones({q.size(2), k.size(2)}, q.options().dtype(at::kBool)).tril(past);
  }
  const auto seen = at::scaled_dot_product_attention(q, k, v, mask, 0.0, false, scale_);
  return proj_(seen.transpose(1, 2).flatten(2));
}

GenieBlock::GenieBlock(const Weights& weights, const GenieConfig& config)
    : spatial_attn_(weights.sub("spatial_attn"), config), temporal_attn_(weights.sub("temporal_attn"), config) {
  const auto hidden = static_cast<int64_t>(static_cast<double>(config.d_model) * config.mlp_ratio);
  fc1_ = layers::Linear(weights.sub("mlp.fc1"), config.d_model, hidden, config.mlp_bias);
  fc2_ = layers::Linear(weights.sub("mlp.fc2"), hidden, config.d_model, config.mlp_bias);
  if (config.qk_norm) return;  // the norm over the heads takes the place of these two
  norm1_ = GenieNorm(weights.sub("norm1"), config.d_model);
  norm2_ = GenieNorm(weights.sub("norm2"), config.d_model);
}

at::Tensor GenieBlock::operator()(const at::Tensor& x, const GenieTimes& times, GenieTimes& grown) const {
  const int64_t batch = x.size(0), frames = x.size(1), places = x.size(2);
  auto h = x.flatten(0, 1);  // [B·n,S,D]
  h = h + spatial_attn_(norm1_(h));
  h = h.unflatten(0, {batch, frames}).transpose(1, 2).flatten(0, 1);  // [B·S,n,D]
  h = h + temporal_attn_(h, &times, &grown);                          // not normalised before, as the reference's is not
  h = h + fc2_(at::gelu(fc1_(norm2_(h))));
  return h.unflatten(0, {batch, places}).transpose(1, 2);
}

struct STMaskGIT::Frames final : Context {
  std::vector<GenieTimes> layers;
  int64_t count = 0, batch = 0;

  int64_t frames() const override { return count; }
  std::unique_ptr<Context> fork() const override { return std::make_unique<Frames>(*this); }
};

STMaskGIT::STMaskGIT(const Config& config, const Weights& weights)
    : config_(GenieConfig::from(config)),
      side_(root_of(config_.S, 2)),
      dtype_(weights.dtype()),
      mask_token_embed_(weights.get("token_embed.mask_token_embed", {1, config_.d_model}).view({config_.d_model})),
      pos_embed_(weights.get("pos_embed_TSC", {1, config_.T, config_.S, config_.d_model}).squeeze(0)),
      out_x_proj_(weights.sub("out_x_proj"), config_.d_model, config_.factored_vocab_size * config_.num_factored_vocabs,
                  true) {
  for (int64_t i = 0; i < config_.num_factored_vocabs; ++i)
    factored_embeds_.push_back(weights.get("token_embed.factored_embeds." + std::to_string(i) + ".weight",
                                           {config_.factored_vocab_size, config_.d_model}));
  for (int64_t i = 0; i < config_.num_layers; ++i) layers_.emplace_back(weights.sub("decoder.layers", i), config_);
  if (config_.use_mup) readout_ = static_cast<double>(kMupBase) / static_cast<double>(config_.d_model);
}

// Source: genie/generate.py and visualize.py.
TokenVideoRules STMaskGIT::video_rules() const {
  std::vector<int64_t> known;
  for (int64_t frames = 1; frames < config_.T; ++frames) known.push_back(frames);
  return {.grid = {config_.T, side_, side_}, .known_latents = known, .usual_known = 8, .fps = 2, .steps = 2};
}

// The keys and values of a whole clip, twice while they grow by a frame; and, while the known frames are read, the stream
// and its copies, query, key and value, the inner layer before and after its activation, and the logits.
int64_t STMaskGIT::work_bytes(at::IntArrayRef tokens) const {
  const int64_t frame = tokens[2] * tokens[3], known = std::min(video_rules().usual_known, tokens[1]) * frame;
  const auto inner = static_cast<int64_t>(2 * config_.mlp_ratio * static_cast<double>(config_.d_model));
  const int64_t at_once =
      4 * config_.d_model + std::max(6 * config_.d_model, inner) + config_.factored_vocab_size * config_.num_factored_vocabs;
  const int64_t remembered = 4 * config_.num_layers * config_.d_model * tokens[1] * frame;
  return static_cast<int64_t>(c10::elementSize(dtype_)) * tokens[0] * (remembered + known * at_once);
}

std::unique_ptr<FramePredictor::Context> STMaskGIT::prepare(int64_t batch) const {
  auto context = std::make_unique<Frames>();
  context->layers.resize(config_.num_layers);
  context->batch = batch;
  return context;
}

// [B,n,S] → [B,n,S,D]: the sum of its digits' embeddings, or that of the mask.
at::Tensor STMaskGIT::embed(const at::Tensor& tokens) const {
  const auto masked = tokens.eq(config_.image_vocab_size);
  at::Tensor rest = tokens.masked_fill(masked, 0), sum;
  for (const at::Tensor& table : factored_embeds_) {
    const auto digit = at::embedding(table, rest.remainder(config_.factored_vocab_size));
    sum = sum.defined() ? sum.add_(digit) : digit;
    rest = rest.div(config_.factored_vocab_size, "floor");
  }
  return at::where(masked.unsqueeze(-1), mask_token_embed_, sum);
}

// Frames [B,n,S] after the past. Time is causal, so the frames that are still to come, which the reference carries along as
// masks, need not be computed.
at::Tensor STMaskGIT::logits(const at::Tensor& tokens, const Frames& past, Frames* grown) const {
  const int64_t count = tokens.size(1);
  if (past.count + count > config_.T)
    wrong("frames", "do not fit into the model's clip", "at most " + std::to_string(config_.T),
          std::to_string(past.count + count));
  if (tokens.min().item<int64_t>() < 0 || tokens.max().item<int64_t>() > config_.image_vocab_size)
    wrong("input_ids", "name tokens that the model does not have",
          "0 … " + std::to_string(config_.image_vocab_size) + " (the mask)", std::to_string(tokens.max().item<int64_t>()));
  auto h = (embed(tokens) + pos_embed_.narrow(0, past.count, count)).to(dtype_);
  GenieTimes unused;
  for (size_t i = 0; i < layers_.size(); ++i) h = layers_[i](h, past.layers[i], grown ? grown->layers[i] : unused);
  if (grown) grown->count = past.count + count;
  return out_x_proj_(h.contiguous() * readout_);
}

void STMaskGIT::observe(const at::Tensor& frames, Context& context) const {
  const c10::InferenceMode inference;
  auto& mine = dynamic_cast<Frames&>(context);
  if (frames.dim() != 4 || frames.size(0) != mine.batch || frames.size(2) != side_ || frames.size(3) != side_)
    wrong("frames", "have the wrong shape", "[B, t, " + std::to_string(side_) + ", " + std::to_string(side_) + "]",
          std::to_string(frames.dim()) + " dimensions or other sizes");
  Frames grown = mine;
  logits(frames.flatten(2), mine, &grown);
  mine = std::move(grown);
}

// [B,S,digits·values] → [B,S]: each digit by itself.
at::Tensor STMaskGIT::choose(const at::Tensor& logits, const FrameSampling& sampling, int64_t frame, int64_t look) const {
  at::Tensor token;
  const auto digits = logits.unflatten(-1, {config_.num_factored_vocabs, config_.factored_vocab_size});
  for (int64_t i = config_.num_factored_vocabs - 1; i >= 0; --i) {
    const auto scores = digits.select(2, i).flatten(0, 1);  // [B·S,values]
    const TokenSampling each{.temperature = sampling.temperature, .greedy = sampling.greedy, .seed = sampling.seed};
    const auto digit = sample_tokens(scores, each, (frame * 64 + look) * config_.num_factored_vocabs + i);
    token = token.defined() ? token * config_.factored_vocab_size + digit : digit;
  }
  return token.view({logits.size(0), config_.S});
}

at::Tensor STMaskGIT::imagine(const FrameSampling& sampling, Context& context) const {
  const c10::InferenceMode inference;
  auto& mine = dynamic_cast<Frames&>(context);
  if (sampling.steps < 1) wrong("steps", "are too few", "at least 1", std::to_string(sampling.steps));
  if (mine.count == 0) wrong("frames", "are missing", "at least one known frame to go on from", "none");
  const int64_t mask = config_.image_vocab_size, frame = mine.count;
  at::Tensor tokens = at::full({mine.batch, config_.S}, mask, at::device(device()).dtype(at::kLong));
  for (int64_t look = 0; look < sampling.steps; ++look) {
    const auto guess = choose(logits(tokens.unsqueeze(1), mine, nullptr).squeeze(1), sampling, frame, look);
    const auto settled = tokens.ne(mask);
    at::Tensor next = at::where(settled, tokens, guess);
    if (look + 1 < sampling.steps) {
      // As the reference by default: which places settle is a matter of chance, not of confidence.
      const double part =
          std::cos(static_cast<double>(look + 1) / static_cast<double>(sampling.steps) * std::numbers::pi / 2);
      const auto masked = static_cast<int64_t>(std::ceil(part * static_cast<double>(config_.S)));
      const at::Tensor order = sampling.settling_order.defined()
                                   ? sampling.settling_order[look].expand({mine.batch, config_.S})
                                   : normal_noise({mine.batch, config_.S}, sampling.seed, static_cast<uint32_t>(frame),
                                                  static_cast<uint32_t>(look + 1))
                                         .to(device());
      const auto places =
          order.masked_fill(settled, HUGE_VAL).argsort(int64_t{1}, /*descending=*/false).narrow(1, 0, masked);
      next = next.scatter(1, places, mask);
    }
    tokens = next;
  }
  const auto whole = tokens.view({mine.batch, 1, side_, side_});
  observe(whole, context);
  return whole;
}

at::Tensor STMaskGIT::from_codec(const at::Tensor& indices) const {
  at::Tensor rest = indices.to(at::kLong), reversed = at::zeros_like(rest);
  for (int64_t values = config_.image_vocab_size; values > 1; values /= 2) {
    reversed = reversed * 2 + rest.remainder(2);
    rest = rest.div(2, "floor");
  }
  return reversed;
}

TensorMap STMaskGIT::call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const {
  const c10::InferenceMode inference;
  require_logits_function(function, class_name());
  const at::Tensor tokens = require_input(inputs, "input_ids", "dynamics.logits");
  if (tokens.dim() != 2 || tokens.size(1) == 0 || tokens.size(1) % config_.S != 0 ||
      at::isFloatingType(tokens.scalar_type()))
    wrong("input_ids", "have the wrong shape or dtype", "int64 [B, frames · " + std::to_string(config_.S) + "]",
          std::to_string(tokens.dim()) + " dimensions or another length");
  const auto frames = tokens.to(at::kLong).unflatten(1, {-1, config_.S});  // [B,t,S]
  const int64_t count = frames.size(1), step = options.streaming > 0 ? options.streaming : count;
  const auto context = prepare(tokens.size(0));
  auto& past = dynamic_cast<Frames&>(*context);
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < count; begin += step) {
    Frames grown = past;
    parts.push_back(logits(frames.narrow(1, begin, std::min(step, count - begin)), past, &grown).flatten(1, 2));
    past = std::move(grown);
  }
  return {{"logits", at::cat(parts, 1).to(at::kFloat).contiguous()}};
}

std::optional<Config> describe_genie(const Weights& weights) {
  const auto positions = weights.shape("pos_embed_TSC");
  const auto digit = weights.shape("token_embed.factored_embeds.0.weight");
  if (!positions || positions->size() != 4 || !digit || digit->size() != 2) return std::nullopt;
  int64_t layers = 0, digits = 0, vocabulary = 1;
  while (weights.has("decoder.layers." + std::to_string(layers) + ".mlp.fc1.weight")) ++layers;
  for (; weights.has("token_embed.factored_embeds." + std::to_string(digits) + ".weight"); ++digits)
    vocabulary *= (*digit)[0];
  const auto hidden = weights.shape("decoder.layers.0.mlp.fc1.weight");
  const int64_t width = (*positions)[3];
  if (layers == 0 || !hidden || width == 0) return std::nullopt;
  return Config()
      .with("_class_name", std::string("STMaskGIT"))
      .with("_config_beside", true)
      .with("num_layers", layers)
      .with("num_heads", int64_t{8})
      .with("d_model", width)
      .with("T", (*positions)[1])
      .with("S", (*positions)[2])
      .with("image_vocab_size", vocabulary)
      .with("num_factored_vocabs", digits)
      .with("qkv_bias", weights.has("decoder.layers.0.spatial_attn.qkv.bias"))
      .with("proj_bias", weights.has("decoder.layers.0.spatial_attn.proj.bias"))
      .with("qk_norm", weights.has("decoder.layers.0.spatial_attn.norm.weight"))
      .with("mlp_bias", weights.has("decoder.layers.0.mlp.fc1.bias"))
      .with("mlp_ratio", static_cast<double>((*hidden)[0]) / static_cast<double>(width));
}

std::unique_ptr<Component> build_genie(const Config& config, const Weights& weights) {
  return std::make_unique<STMaskGIT>(config, weights);
}

}  // namespace orrery::models

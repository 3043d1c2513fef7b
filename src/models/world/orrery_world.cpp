#include "models/world/orrery_world.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "models/world/world_tokenizer.h"
#include "models/world/world_transformer.h"
#include "orrery/error.h"
#include "orrery/noise.h"

namespace orrery::models {
namespace {

using TimeKeys = OrreryWorldTransformer::TimeKeys;

// How much each of `in` pixels counts in each of `out` pixels that cover it: float [out,in], rows sum to one.
at::Tensor area_weights(int64_t in, int64_t out) {
  at::Tensor weights = at::zeros({out, in}, at::kFloat);
  auto w = weights.accessor<float, 2>();
  const double ratio = static_cast<double>(in) / static_cast<double>(out);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i) {
      const double from = std::max(static_cast<double>(i), static_cast<double>(o) * ratio);
      const double to = std::min(static_cast<double>(i + 1), static_cast<double>(o + 1) * ratio);
      if (to > from) w[o][i] = static_cast<float>((to - from) / ratio);
    }
  return weights;
}

// A picture of any size as the tokenizer was trained on: uint8 [H,W,3] → float [1,3,1,size,size] in [-1,1], on 8-bit steps.
at::Tensor observation(const at::Tensor& picture, int64_t size) {
  const at::Tensor planes = picture.permute({2, 0, 1}).to(at::kFloat);  // [3,H,W]
  const at::Tensor rows = at::matmul(area_weights(planes.size(1), size), planes);
  const at::Tensor small = at::matmul(rows, area_weights(planes.size(2), size).t());
  return (small.round().clamp(0, 255) / 127.5 - 1).view({1, 3, 1, size, size});
}

class OrreryWorld final : public World {
 public:
  OrreryWorld(const ModelDescription& model, const LoadOptions& options)
      : action_space_(orrery_world_actions(model)),
        frequencies_(Config::load(model.path / "action_space.json").object("encoding").get<int64_t>("frequencies", 0)) {
    Config scheduler;
    for (const ComponentDescription& part : model.components) {
      if (part.name == "scheduler") scheduler = part.config;
      if (part.name == "vae") tokenizer_.reset(dynamic_cast<OrreryTokenizer*>(load_component(part, options).release()));
      if (part.name == "transformer")
        transformer_.reset(dynamic_cast<OrreryWorldTransformer*>(load_component(part, options).release()));
    }
    if (!tokenizer_ || !transformer_)
      throw Error(ErrorKind::kConfig,
                  {.place = model.path.string(), .what = "lacks a tokenizer or a transformer of this family"});
    context_level_ = scheduler.get<double>("context_level", 0.1);
    start_frames_ = scheduler.get<int64_t>("start_frames", 4);
    const auto steps = scheduler.get<int64_t>("num_inference_steps", 4);
    const double shift = scheduler.get<double>("shift", 3.0);
    for (int64_t i = 0; i <= steps; ++i) {
      const double u = 1 - static_cast<double>(i) / static_cast<double>(steps);
      levels_.push_back(shift * u / (1 + (shift - 1) * u));
    }
  }

  const ActionSpace& action_space() const override { return action_space_; }
  int64_t height() const override { return tokenizer_->sample_size(); }
  int64_t width() const override { return tokenizer_->sample_size(); }

  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    const Conditions& given = prompt.conditions;
    if (!prompt.text.empty() || given.text.defined() || given.image.defined() || given.camera.defined() ||
        !given.controls.empty())
      throw Error(ErrorKind::kArgument,
                  {.place = "prompt", .what = "cannot be used by this world", .expected = "a picture alone"});
    State state;
    state.seed = seed;
    const int64_t count = observed.num_frames(), repeats = count == 1 ? start_frames_ : 1;
    for (int64_t i = 0; i < count; ++i) {
      const at::Tensor sample = observation(observed.frames[i], tokenizer_->sample_size());
      const at::Tensor latent =
          tokenizer_->normalization().apply(tokenizer_->encode(sample).latent).transpose(1, 2);  // [1,1,C,h,w]
      for (int64_t k = 0; k < repeats; ++k) append(state, latent, unknown_action());
    }
    return state;
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const override {
    const at::Tensor features = encode(action);
    at::Tensor x = (noise.defined() ? noise.to(at::kFloat)
                                    : normal_noise(state.last.sizes(), state.seed, static_cast<uint32_t>(state.frame)))
                       .reshape(state.last.sizes());
    for (size_t i = 0; i + 1 < levels_.size(); ++i) {
      const at::Tensor clean = pass(state, x, levels_[i], features, nullptr);
      x = at::lerp(clean, x, levels_[i + 1] / levels_[i]);
    }
    append(state, x, features);
    const at::Tensor latent = tokenizer_->normalization().undo(x.transpose(1, 2));  // [1,C,1,h,w]
    CodecCache none;
    return tokenizer_->decode_chunk(latent, none, /*last=*/true).squeeze(2).clamp(-1, 1);
  }

 private:
  at::Tensor unknown_action() const { return at::zeros({1, 1, transformer_->action_features()}, at::kFloat); }

  // A row in the simulator's units as features [1,1,F]; the last one says that the action is known.
  at::Tensor encode(const std::vector<double>& action) const {
    std::vector<float> features;
    if (action_space_.discrete) {
      features.assign(static_cast<size_t>(action_space_.high[0]) + 1, 0);
      features[static_cast<size_t>(action[0])] = 1;
    } else {
      for (size_t a = 0; a < action.size(); ++a) {
        const double u = 2 * (action[a] - action_space_.low[a]) / (action_space_.high[a] - action_space_.low[a]) - 1;
        features.push_back(static_cast<float>(u));
        for (int64_t j = 0; j < frequencies_; ++j)
          features.push_back(static_cast<float>(std::sin(std::numbers::pi * std::ldexp(u, static_cast<int>(j)))));
        for (int64_t j = 0; j < frequencies_; ++j)
          features.push_back(static_cast<float>(std::cos(std::numbers::pi * std::ldexp(u, static_cast<int>(j)))));
      }
    }
    features.push_back(1);
    return at::tensor(features, at::kFloat).view({1, 1, -1});
  }

  // One look of the network at frame `state.frame`, x [1,1,C,h,w].
  at::Tensor pass(const State& state, const at::Tensor& x, double level, const at::Tensor& features, TimeKeys* keys) const {
    const at::Tensor previous = state.last.defined() ? state.last : at::zeros_like(x);
    TimeKeys past;
    if (!state.caches.empty()) past = at::cat(state.caches, 4).unbind(0);
    return transformer_->forward(x, previous,
                                 {.condition = transformer_->condition(at::full({1, 1}, level, at::kFloat), features),
                                  .first_frame = state.frame,
                                  .past = &past},
                                 keys);
  }

  // Puts a frame into the cache, which keeps the pages of the last window − 1.
  void append(State& state, const at::Tensor& x, const at::Tensor& features) const {
    TimeKeys keys;
    pass(state, x, context_level_, features, &keys);
    state.caches.push_back(at::stack(keys));  // [layers,2,S,heads,1,head_dim]
    if (static_cast<int64_t>(state.caches.size()) >= transformer_->window()) state.caches.erase(state.caches.begin());
    state.last = x;
    ++state.frame;
  }

  void verify(const State& state) const override {
    const std::vector<int64_t> page = transformer_->page_sizes(), latent = tokenizer_latent();
    bool right = state.frame >= 0 && state.context.empty() && state.last.defined() && state.last.sizes() == latent &&
                 state.last.scalar_type() == at::kFloat &&
                 static_cast<int64_t>(state.caches.size()) < transformer_->window();
    for (const at::Tensor& cache : state.caches)
      right = right && cache.defined() && cache.sizes() == page && cache.scalar_type() == at::kFloat;
    if (!right)
      throw Error(ErrorKind::kArgument, {.place = "state", .what = "holds tensors of other shapes than this world's"});
  }

  std::vector<int64_t> tokenizer_latent() const {
    const int64_t side = tokenizer_->sample_size() / tokenizer_->spec().spatial_stride;
    return {1, 1, tokenizer_->spec().latent_channels, side, side};
  }

  ActionSpace action_space_;
  int64_t frequencies_, start_frames_ = 4;
  double context_level_ = 0.1;
  std::vector<double> levels_;
  std::unique_ptr<const OrreryTokenizer> tokenizer_;
  std::unique_ptr<const OrreryWorldTransformer> transformer_;
};

}  // namespace

ActionSpace orrery_world_actions(const ModelDescription& model) {
  return ActionSpace::read(Config::load(model.path / "action_space.json"));
}

std::unique_ptr<World> build_orrery_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<OrreryWorld>(model, options);
}

}  // namespace orrery::models

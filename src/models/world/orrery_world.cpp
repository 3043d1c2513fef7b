#include "models/world/orrery_world.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <numbers>
#include <optional>

#include "layers/steady_graph.h"
#include "models/world/fast_decoder.h"
#include "models/world/world_tokenizer.h"
#include "models/world/world_transformer.h"
#include "ops/beside.h"
#include "orrery/error.h"
#include "orrery/noise.h"

namespace orrery::models {
namespace {

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
    told_.assign(levels_.begin(), levels_.end() - 1);
    if (remembers()) told_.push_back(static_cast<float>(context_level_));
    if (!options.device.is_cpu()) {  // a device runs the networks in tensors
      graph_.emplace("world", options.device, [this](const Tensors& given) { return imagined(given); });
      return;
    }
    decoder_.emplace(*tokenizer_);
    noise_ = transformer_->noise_embedding(at::tensor(told_)).contiguous();
  }

  const ActionSpace& action_space() const override { return action_space_; }
  int64_t height() const override { return tokenizer_->sample_size(); }
  int64_t width() const override { return tokenizer_->sample_size(); }

  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    prompt.refuse();
    State state;
    state.seed = seed;
    const std::vector<float> unknown(transformer_->action_features(), 0);
    std::vector<float> condition;
    if (fast() && remembers())
      condition =
          transformer_->fast().conditions(noise_.narrow(0, noise_.size(0) - 1, 1), std::span(told_).last(1), unknown);
    const int64_t count = observed.num_frames(), repeats = count == 1 ? start_frames_ : 1;
    for (int64_t i = 0; i < count; ++i) {
      const at::Tensor sample = observation(observed.frames[i], tokenizer_->sample_size()).to(device());
      const at::Tensor latent =
          tokenizer_->normalization().apply(tokenizer_->encode(sample).latent).transpose(1, 2).contiguous();  // [1,1,C,h,w]
      for (int64_t k = 0; k < repeats; ++k) {
        if (fast())
          append(state, latent, condition.data(), pages_of(state));
        else
          append_tensors(state, latent, row_of(unknown).to(device()));
      }
    }
    return state;
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const override {
    if (!fast()) return imagine_in_tensors(state, action, noise);
    const std::vector<float> conditions = transformer_->fast().conditions(noise_, told_, encode(action));
    const std::vector<const float*> pages = pages_of(state);
    const std::vector<int64_t> latent = tokenizer_latent();
    at::Tensor x = noise.defined() ? noise.to(at::kFloat).reshape(latent).clone()
                                   : normal_noise(latent, state.seed, static_cast<uint32_t>(state.frame));
    at::Tensor clean = at::empty_like(x);
    const size_t passes = levels_.size() - 1, row = conditions.size() / told_.size();
    const float *previous = state.last.const_data_ptr<float>(), *cleaned = clean.const_data_ptr<float>();
    float* noisy = x.mutable_data_ptr<float>();
    for (size_t i = 0; i < passes; ++i) {
      transformer_->fast().forward(noisy, previous, conditions.data() + i * row, state.frame, pages, nullptr,
                                   clean.mutable_data_ptr<float>());
      const auto rest = static_cast<float>(levels_[i + 1] / levels_[i]);
      for (int64_t n = 0; n < x.numel(); ++n) noisy[n] = cleaned[n] + rest * (noisy[n] - cleaned[n]);
    }
    at::Tensor frame = at::empty({1, 3, height(), width()}, at::kFloat);
    float* picture = frame.mutable_data_ptr<float>();
    const auto show = [&] { (*decoder_)(noisy, picture); };
    if (remembers()) {  // what is kept takes a pass of the network, which knows nothing of the decode
      ops::run_beside([&] { append(state, x, conditions.data() + passes * row, pages); }, show);
    } else {
      keep(state, x, {});
      show();
    }
    return frame;
  }

  // Worlds that do not know of each other: one a thread.
  std::vector<at::Tensor> imagine_all(std::span<State> states, std::span<const std::vector<double>> actions) const override {
    if (!fast()) return World::imagine_all(states, actions);
    std::vector<at::Tensor> frames(states.size());
    at::parallel_for(0, static_cast<int64_t>(states.size()), 1, [&](int64_t begin, int64_t end) {
      const c10::InferenceMode inference;
      for (int64_t i = begin; i < end; ++i) frames[i] = imagine(states[i], actions[i], {});
    });
    return frames;
  }

 private:
  // A row in the simulator's units as features; the last one says that the action is known. Of an unknown action all are
  // zero.
  std::vector<float> encode(const std::vector<double>& action) const {
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
    return features;
  }

  static std::vector<const float*> pages_of(const State& state) {
    std::vector<const float*> pages;
    for (const at::Tensor& page : state.caches) pages.push_back(page.const_data_ptr<float>());
    return pages;
  }

  // With a window of one frame, the two frames before it are all that a world knows: there is no cache.
  bool remembers() const { return transformer_->window() > 1; }

  // Puts frame x [1,1,C,h,w] into the cache, which keeps the pages of the last window − 1, and before the frame before it
  // (state.last [1,2,C,h,w]). `condition` is of the context's level.
  void append(State& state, const at::Tensor& x, const float* condition, const std::vector<const float*>& pages) const {
    if (!remembers()) return keep(state, x, {});
    at::Tensor page = at::empty(transformer_->page_sizes(), at::kFloat);
    const at::Tensor previous = previous_of(state, x);
    transformer_->fast().forward(x.const_data_ptr<float>(), previous.const_data_ptr<float>(), condition, state.frame, pages,
                                 page.mutable_data_ptr<float>(), nullptr);
    keep(state, x, std::move(page));
  }

  static at::Tensor previous_of(const State& state, const at::Tensor& x) {
    return state.last.defined() ? state.last : at::zeros_like(x).repeat({1, 2, 1, 1, 1});
  }

  void keep(State& state, const at::Tensor& x, at::Tensor page) const {
    const at::Tensor previous = previous_of(state, x);
    if (page.defined()) state.caches.push_back(std::move(page));
    if (remembers() && static_cast<int64_t>(state.caches.size()) >= transformer_->window())
      state.caches.erase(state.caches.begin());
    state.last = at::cat({x, previous.narrow(1, 0, 1)}, 1);
    ++state.frame;
  }

  // The same steps in tensors, for a device that has no plain buffers. Their pages are the same numbers in the same order,
  // so that a saved state goes on here as there.
  using TimeKeys = OrreryWorldTransformer::TimeKeys;
  using Tensors = layers::SteadyGraph::Tensors;

  bool fast() const { return decoder_.has_value(); }

  static at::Tensor row_of(const std::vector<float>& features) { return at::tensor(features).view({1, 1, -1}); }

  OrreryWorldTransformer::Pass pass_of(double level, const at::Tensor& features, const layers::Rotary& angles,
                                       const TimeKeys& past) const {
    return {at::full({1, 1}, level, features.options()), features, angles, &past};
  }

  // The two frames before one, [1,2,C,h,w], as they stand beside it: [1,1,2C,h,w]
  static at::Tensor as_channels(const at::Tensor& previous) { return previous.flatten(1, 2).unsqueeze(1); }

  // The keys and values of all pages: [layers,2,S,heads,T,head_dim]
  at::Tensor past_of(const State& state) const {
    if (!state.caches.empty()) return at::cat(at::TensorList(state.caches), 4);
    std::vector<int64_t> sizes = transformer_->page_sizes();
    sizes[4] = 0;
    return at::empty(sizes, at::TensorOptions(at::kFloat).device(device()));
  }

  at::Tensor imagine_in_tensors(State& state, const std::vector<double>& action, const at::Tensor& noise) const {
    const std::vector<int64_t> latent = tokenizer_latent();
    const layers::Rotary angles = transformer_->angles(state.frame, 1);
    const at::Tensor x = noise.defined() ? noise.to(at::kFloat).reshape(latent)
                                         : normal_noise(latent, state.seed, static_cast<uint32_t>(state.frame));
    const bool steady = static_cast<int64_t>(state.caches.size()) + 1 == transformer_->window();
    const Tensors made = (*graph_)({x, state.last, row_of(encode(action)), angles.cos, angles.sin, past_of(state)}, steady);
    keep(state, made[0], remembers() ? made[2] : at::Tensor());
    return made[1];
  }

  // The networks' part of a step. All that differs from step to step is among what it is given, the frame's number as the
  // angles that it stands for: noise [1,1,C,h,w], the two frames before [1,2,C,h,w], action features [1,1,F], cosines and
  // sines, pages → latent, frame, and its page where there is a cache.
  Tensors imagined(const Tensors& given) const {
    const at::Tensor previous = as_channels(given[1]), &features = given[2];
    const layers::Rotary angles{given[3], given[4]};
    const TimeKeys past = given[5].unbind(0);
    at::Tensor x = given[0];
    for (size_t i = 0; i + 1 < levels_.size(); ++i) {
      const at::Tensor clean = transformer_->forward(x, previous, pass_of(levels_[i], features, angles, past), nullptr);
      x = clean + (x - clean) * (levels_[i + 1] / levels_[i]);
    }
    CodecCache none;
    const at::Tensor decoded =
        tokenizer_->decode_chunk(tokenizer_->normalization().undo(x.transpose(1, 2)), none, /*last=*/true);
    Tensors made = {x, decoded.squeeze(2).clamp(-1, 1)};
    if (!remembers()) return made;
    TimeKeys own;
    transformer_->forward(x, previous, pass_of(context_level_, features, angles, past), &own);
    made.push_back(at::stack(own));
    return made;
  }

  // Puts an observed frame into the cache.
  void append_tensors(State& state, const at::Tensor& x, const at::Tensor& features) const {
    if (!remembers()) return keep(state, x, {});
    const TimeKeys past = past_of(state).unbind(0);
    TimeKeys own;
    transformer_->forward(x, as_channels(previous_of(state, x)),
                          pass_of(context_level_, features, transformer_->angles(state.frame, 1), past), &own);
    keep(state, x, at::stack(own));
  }

  void verify(const State& state) const override {
    const std::vector<int64_t> page = transformer_->page_sizes();
    std::vector<int64_t> latent = tokenizer_latent();
    latent[1] = 2;
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
  std::optional<FastDecoder> decoder_;        // none on a device
  std::optional<layers::SteadyGraph> graph_;  // on a device alone
  std::vector<float> told_;  // the noise level of each pass, then the context's
  at::Tensor noise_;         // what the network makes of each noise level, and of the context's: [passes + 1,D]
};

}  // namespace

ActionSpace orrery_world_actions(const ModelDescription& model) {
  return ActionSpace::read(Config::load(model.path / "action_space.json"));
}

std::unique_ptr<World> build_orrery_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<OrreryWorld>(model, options);
}

}  // namespace orrery::models

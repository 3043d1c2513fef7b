#include "models/tinyworlds/tiny_world.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "orrery/error.h"
#include "orrery/media.h"

namespace orrery::models {
namespace {

constexpr int64_t kWindow = 2;  // frames that a step looks back on, unless the folder says otherwise

// The three networks as run_inference.py runs them: each step the last frames are made tokens anew.
class TinyWorld final : public World {
 public:
  TinyWorld(const ModelDescription& model, const LoadOptions& options) {
    const Config& index = model.index;
    window_ = index.get<int64_t>("context_window", kWindow);
    temperature_ = index.get<double>("temperature", 0.5);
    looks_ = index.get<int64_t>("num_steps", 10);
    for (const ComponentDescription& part : model.components) {
      const std::shared_ptr<const Component> loaded = load_component(part, options);
      if (auto tokenizer = std::dynamic_pointer_cast<const TinyVideoTokenizer>(loaded)) tokenizer_ = tokenizer;
      if (auto actions = std::dynamic_pointer_cast<const TinyLatentActions>(loaded)) actions_ = actions;
      if (auto dynamics = std::dynamic_pointer_cast<const TinyDynamics>(loaded)) dynamics_ = dynamics;
    }
    if (!tokenizer_ || !actions_ || !dynamics_)
      throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                       .what = "is not complete",
                                       .expected = "a VideoTokenizer, a LatentActionModel and a DynamicsModel"});
    if (window_ < 1 || looks_ < 1 || !(temperature_ >= 0))
      throw Error(ErrorKind::kConfig,
                  {.place = index.place(), .what = "has a context_window, num_steps or temperature out of range"});
    space_ = tiny_world_actions(model);
    if (space_.high != std::vector<double>{std::ldexp(1.0, static_cast<int>(actions_->action_dim())) - 1})
      throw Error(ErrorKind::kConfig, {.place = index.place() + ": n_actions",
                                       .what = "is not that of the network",
                                       .expected = std::to_string(int64_t{1} << actions_->action_dim())});
  }

  const ActionSpace& action_space() const override { return space_; }
  int64_t height() const override { return tokenizer_->frame_size(); }
  int64_t width() const override { return tokenizer_->frame_size(); }

 protected:
  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    prompt.refuse();
    const at::Tensor frames =
        to_input(resize(observed, {.height = height(), .width = width()})).to(device());  // [1,3,T,H,W]
    const int64_t missing = window_ - frames.size(2);
    State state;
    state.seed = seed;
    state.last = missing <= 0 ? frames.slice(2, -missing)
                              : at::cat({frames.narrow(2, 0, 1).expand({-1, -1, missing, -1, -1}), frames}, 2);
    state.caches = {at::zeros({0}, at::kLong)};
    return state;
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const override {
    if (noise.defined())
      throw Error(ErrorKind::kArgument,
                  {.place = "noise", .what = "cannot be used: this world draws tokens", .hint = "set a seed"});
    at::Tensor taken = at::cat({state.caches[0], at::full({1}, static_cast<int64_t>(action[0]), at::kLong)});
    if (taken.size(0) > window_) taken = taken.slice(0, taken.size(0) - window_);
    at::Tensor signs = actions_->of(taken.to(device())).unsqueeze(0);  // [1,n,A]
    // What happened between the frames that were observed is read off them.
    if (const int64_t before = window_ - taken.size(0); before > 0)
      signs = at::cat({actions_->encode(state.last.narrow(2, 0, before + 1)), signs}, 1);

    const at::Tensor seen = tokenizer_->encode(state.last).latent;         // [1,L,t,h,w]
    const at::Tensor codes = seen.permute({0, 2, 3, 4, 1}).flatten(2, 3);  // [1,t,P,L]
    const at::Tensor whole = dynamics_->imagine(codes, signs, looks_, temperature_, state.seed, state.frame);
    const at::Tensor latent = whole.unflatten(2, {seen.size(3), seen.size(4)}).permute({0, 4, 1, 2, 3}).contiguous();
    const at::Tensor frame = tokenizer_->decode(latent).slice(2, window_);  // [1,3,1,H,W], not clamped before reuse
    state.last = at::cat({state.last.slice(2, 1), frame}, 2);
    state.caches = {taken};
    ++state.frame;
    return frame.squeeze(2).clamp(-1, 1);
  }

  void verify(const State& state) const override {
    const std::vector<int64_t> frames = {1, 3, window_, height(), width()};
    bool right = state.frame >= 0 && state.context.empty() && state.last.defined() && state.last.sizes() == frames &&
                 state.last.scalar_type() == at::kFloat && state.caches.size() == 1 && state.caches[0].defined();
    if (right) {
      const at::Tensor& taken = state.caches[0];
      right = taken.dim() == 1 && taken.scalar_type() == at::kLong && taken.size(0) <= window_ &&
              (taken.numel() == 0 || (taken.min().item<int64_t>() >= 0 && taken.max().item<int64_t>() <= space_.high[0]));
    }
    if (!right)
      throw Error(ErrorKind::kArgument, {.place = "state", .what = "holds tensors of other shapes than this world's"});
  }

 private:
  std::shared_ptr<const TinyVideoTokenizer> tokenizer_;
  std::shared_ptr<const TinyLatentActions> actions_;
  std::shared_ptr<const TinyDynamics> dynamics_;
  ActionSpace space_;
  int64_t window_ = kWindow, looks_ = 10;
  double temperature_ = 0.5;
};

}  // namespace

ActionSpace tiny_world_actions(const ModelDescription& model) {
  const Config& index = model.index;
  int64_t count = 4;
  for (const ComponentDescription& part : model.components)
    if (part.class_name == "LatentActionModel") count = part.config.get<int64_t>("n_actions", count);
  ActionSpace space;
  space.name = index.get<std::string>("name", "tinyworlds");
  space.discrete = true;
  space.names = {"latent action"};
  space.low = {0};
  space.high = {static_cast<double>(index.get<int64_t>("n_actions", count) - 1)};
  space.units = "index of a latent action";
  space.rate_hz = index.get<double>("fps", 2);
  return space;
}

// The frames that a step looks back on, and the one that it makes.
std::vector<int64_t> tiny_world_clip(const ModelDescription& model) {
  int64_t side = 0;
  for (const ComponentDescription& part : model.components)
    if (part.class_name == "VideoTokenizer") side = TinyWorldConfig::from(part.config).frame_size;
  return {model.index.get<int64_t>("context_window", kWindow) + 1, side, side};
}

std::unique_ptr<World> build_tiny_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<TinyWorld>(model, options);
}

}  // namespace orrery::models

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "models/oasis/dit.h"
#include "models/oasis/oasis.h"
#include "models/oasis/vit_autoencoder.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/noise.h"

// Diffusion forcing as open-oasis generate.py (f59deef2) runs it: a new frame is denoised by DDIM behind clean frames that
// are labelled as slightly noisy. There the whole window goes through the network at each step; here the keys and values of
// past frames, which no step changes, are kept, with the same result.
namespace orrery::models {
namespace {

using TimeKeys = DiT::TimeKeys;

constexpr int64_t kTrainSteps = 1000;
constexpr double kNoiseLimit = 20;  // no sample of the generator may be larger

// Product of 1 − β up to each step, of the sigmoid schedule from −3 to 3: float32 [1000], from differences in float64.
at::Tensor alphas_cumprod() {
  const at::Tensor t = at::linspace(0, kTrainSteps, kTrainSteps + 1, at::kDouble) / kTrainSteps;
  const at::Tensor start = at::sigmoid(at::scalar_tensor(-3.0)), end = at::sigmoid(at::scalar_tensor(3.0));
  at::Tensor level = (end - at::sigmoid(t * 6 - 3)) / (end - start);
  level = level / level[0];
  const at::Tensor betas = (1 - level.slice(0, 1) / level.slice(0, 0, kTrainSteps)).clamp(0, 0.999);
  return at::cumprod(1 - betas.to(at::kFloat), 0);
}

ActionSpace minecraft_actions() {
  ActionSpace space;
  space.name = "minecraft";
  space.names = {"inventory", "ESC",      "hotbar.1", "hotbar.2", "hotbar.3", "hotbar.4", "hotbar.5",
                 "hotbar.6",  "hotbar.7", "hotbar.8", "hotbar.9", "forward",  "back",     "left",
                 "right",     "cameraX",  "cameraY",  "jump",     "sneak",    "sprint",   "swapHands",
                 "attack",    "use",      "pickItem", "drop"};
  space.width = static_cast<int64_t>(space.names.size());
  space.units = "keys and buttons 0 or 1; camera as a share of 20 degrees, cameraX down, cameraY right";
  space.rate_hz = 20;
  constexpr double kGlance = 0.25, kSwing = 0.5;  // 5 and 10 degrees
  const std::vector<double> still(space.names.size(), 0.0);
  space.named["nothing"] = still;
  for (size_t i = 0; i < space.names.size(); ++i) {
    const bool camera = space.names[i].starts_with("camera");
    space.low.push_back(camera ? -1 : 0);
    space.high.push_back(1);
    std::vector<double> row = still;
    row[i] = 1;
    if (!camera) space.named[space.names[i]] = row;
    if (!camera) continue;
    const bool pitch = space.names[i] == "cameraX";
    row[i] = kGlance;
    space.named[pitch ? "look down" : "look right"] = row;
    row[i] = -kGlance;
    space.named[pitch ? "look up" : "look left"] = row;
  }
  for (const char* way : {"forward", "back", "left", "right"}) space.named[std::string("move ") + way] = space.named.at(way);
  space.idle = still;
  space.pointer = {16, 15};  // cameraY to the right, cameraX down
  space.pointer_turn = {kSwing, kSwing};
  space.keys_add = true;
  space.keys = {{"w", "forward"},
                {"s", "back"},
                {"a", "left"},
                {"d", "right"},
                {" ", "jump"},
                {"Shift", "sneak"},
                {"r", "sprint"},  // Control and W would close a browser's tab
                {"e", "inventory"},
                {"q", "drop"},
                {"f", "swapHands"},
                {"j", "attack"},
                {"k", "use"},
                {"ArrowUp", "look up"},
                {"ArrowDown", "look down"},
                {"ArrowLeft", "look left"},
                {"ArrowRight", "look right"}};
  return space;
}

class OasisWorld final : public World {
 public:
  OasisWorld(const ModelDescription& model, const LoadOptions& options) : alphas_(alphas_cumprod()) {
    Config scheduler;
    for (const ComponentDescription& part : model.components) {
      if (part.name == "scheduler") scheduler = part.config;
      if (part.name == "vae") vae_ = as<OasisAutoencoderKL>(load_component(part, options));
      if (part.name == "transformer") dit_ = as<DiT>(load_component(part, options));
    }
    if (!vae_ || !dit_)
      throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                       .what = "lacks a part of this world",
                                       .expected = "the transformer's file and the ViT-VAE's file beside it"});
    if (dit_->actions() != actions_.width)
      throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                       .what = "takes other actions",
                                       .expected = std::to_string(actions_.width) + " numbers a row",
                                       .got = std::to_string(dit_->actions())});
    context_time_ = scheduler.get<double>("stabilization_level", 15) - 1;
    const auto steps = scheduler.get<int64_t>("ddim_steps", 10);
    const at::Tensor range = at::linspace(-1, kTrainSteps - 1, steps + 1, at::kFloat).to(at::kLong);
    times_.assign(range.data_ptr<int64_t>(), range.data_ptr<int64_t>() + range.numel());
  }

  const ActionSpace& action_space() const override { return actions_; }
  int64_t height() const override { return dit_->input_h() * vae_->spec().spatial_stride; }
  int64_t width() const override { return dit_->input_w() * vae_->spec().spatial_stride; }

  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    prompt.refuse();
    State state;
    state.seed = seed;
    const Video small = resize(observed, {.height = height(), .width = width()});
    const int64_t usable = std::min<int64_t>(small.num_frames(), dit_->max_frames() - 1);
    for (int64_t i = small.num_frames() - usable; i < small.num_frames(); ++i) {
      const at::Tensor sample = small.frames[i]
                                    .permute({2, 0, 1})
                                    .to(at::kFloat)
                                    .div(127.5)
                                    .sub(1)
                                    .view({1, 3, 1, height(), width()})
                                    .to(device());
      const at::Tensor latent = vae_->normalization().apply(vae_->encode(sample).latent).transpose(1, 2);  // [1,1,C,h,w]
      append(state, latent, at::zeros({1, 1, actions_.width}, latent.options()));
    }
    return state;
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const override {
    const at::Tensor row = at::tensor(action, at::kDouble).to(device(), at::kFloat).view({1, 1, -1});
    at::Tensor x =
        (noise.defined() ? noise.to(at::kFloat)
                         : normal_noise(state.last.sizes(), state.seed, static_cast<uint32_t>(state.frame)).to(device()))
            .reshape(state.last.sizes())
            .clamp(-kNoiseLimit, kNoiseLimit);
    const TimeKeys past(state.caches.begin() + kKeys, state.caches.end());
    for (size_t i = times_.size() - 1; i > 0; --i) {
      const at::Tensor alpha = alphas_[times_[i]];
      const at::Tensor next = i == 1 ? at::ones_like(alpha) : alphas_[times_[i - 1]];  // the last step ends clean
      const at::Tensor v =
          dit_->forward(x, at::full({1, 1}, static_cast<double>(times_[i]), x.options()), row, past, nullptr);
      const at::Tensor clean = alpha.sqrt() * x - (1 - alpha).sqrt() * v;
      const at::Tensor dirt = (alpha.reciprocal().sqrt() * x - clean) / (alpha.reciprocal() - 1).sqrt();
      x = next.sqrt() * clean + (1 - next).sqrt() * dirt;
    }
    append(state, x, row);
    CodecCache none;
    const at::Tensor latent = vae_->normalization().undo(x.transpose(1, 2));  // [1,C,1,h,w]
    return vae_->decode_chunk(latent, none, /*last=*/true).squeeze(2).clamp(-1, 1);
  }

 private:
  // What State::caches holds: the window's latents [1,n,C,h,w] and actions [1,n,A], then keys and values by block.
  static constexpr size_t kLatents = 0, kActions = 1, kKeys = 2;

  template <typename T>
  static std::unique_ptr<const T> as(std::unique_ptr<Component> part) {
    std::unique_ptr<const T> made(dynamic_cast<const T*>(part.get()));
    if (made) part.release();
    return made;
  }

  void verify(const State& state) const override {
    const std::vector<int64_t> latent = {1, 1, vae_->spec().latent_channels, dit_->input_h(), dit_->input_w()};
    const int64_t frames = state.caches.empty()                ? 0
                           : state.caches[kLatents].dim() == 5 ? state.caches[kLatents].size(1)
                                                               : -1;
    bool right = state.context.empty() && state.caches.size() == kKeys + dit_->depth() && frames > 0 &&
                 frames < dit_->max_frames() && state.frame >= frames && state.last.defined() &&
                 state.last.sizes() == latent;
    for (size_t i = 0; right && i < state.caches.size(); ++i) {
      std::vector<int64_t> shape = dit_->keys_shape(frames);
      if (i == kLatents) shape = {1, frames, latent[2], latent[3], latent[4]};
      if (i == kActions) shape = {1, frames, actions_.width};
      right = state.caches[i].sizes() == shape && state.caches[i].scalar_type() == at::kFloat;
    }
    if (!right)
      throw Error(ErrorKind::kArgument, {.place = "state", .what = "holds tensors of other shapes than this world's"});
  }

  // Puts a frame into the window of max_frames − 1 past frames. While it fills, the frame's keys are appended. Once it
  // slides, all that it held was computed in sight of the frame that leaves, so it is computed anew: once a frame, not once
  // a step.
  void append(State& state, const at::Tensor& x, const at::Tensor& row) const {
    at::Tensor latents = x, actions = row;
    TimeKeys past, keys;
    if (!state.caches.empty()) {
      latents = at::cat({state.caches[kLatents], x}, 1);
      actions = at::cat({state.caches[kActions], row}, 1);
      past.assign(state.caches.begin() + kKeys, state.caches.end());
    }
    const int64_t excess = latents.size(1) - (dit_->max_frames() - 1);
    if (excess > 0) {
      latents = latents.slice(1, excess).contiguous();
      actions = actions.slice(1, excess).contiguous();
      past.clear();
    }
    const at::Tensor fresh = past.empty() ? latents : x;
    dit_->forward(fresh, at::full({1, fresh.size(1)}, context_time_, fresh.options()), past.empty() ? actions : row, past,
                  &keys);
    state.caches = {latents, actions};
    state.caches.insert(state.caches.end(), keys.begin(), keys.end());
    state.last = x;
    ++state.frame;
  }

  ActionSpace actions_ = minecraft_actions();
  at::Tensor alphas_;
  double context_time_ = 14;
  std::vector<int64_t> times_;  // −1 … 999
  std::unique_ptr<const OasisAutoencoderKL> vae_;
  std::unique_ptr<const DiT> dit_;
};

}  // namespace

ActionSpace oasis_actions(const ModelDescription&) {
  return minecraft_actions();
}

std::unique_ptr<World> build_oasis_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<OasisWorld>(model, options);
}

}  // namespace orrery::models

// Predict2.5's interactive form: the action-conditioned network, trained by self-forcing to run one latent frame at a time
// over the keys of the frames before. Source: nvidia-cosmos/cosmos-transfer2.5 at 2ff49d0,
// interactive/methods/cosmos2_interactive_model.py (generate_streaming_video), interactive/networks/dit_action_causal2p5.py,
// predict2/utils/kv_cache.py.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "layers/side_stream.h"
#include "models/cosmos/cosmos_actions.h"
#include "models/cosmos/cosmos_recipe.h"
#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "orrery/autoencoder.h"
#include "orrery/diffusion.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/noise.h"
#include "orrery/text.h"

namespace orrery::models {
namespace {

constexpr size_t kMostHops = 4;
constexpr double kSigmaConditional = 0.0001;
constexpr int64_t kTrainedFrames = 4;  // latent frames that a training clip had

// The reference keeps angles and what follows from them in bfloat16.
double rounded(double value) {
  return at::scalar_tensor(value, at::kFloat).to(at::kBFloat16).item<double>();
}

// A noise level as an angle, where the rectified flow's time is sin / (cos + sin).
struct Angle {
  explicit Angle(double radians, bool exact = false) {
    const double angle = exact ? radians : rounded(radians), c = std::cos(angle), s = std::sin(angle);
    skip = exact ? 1 / (c + s) : rounded(1 / (c + s));
    out = exact ? -s / (c + s) : rounded(-s / (c + s));
    cos = exact ? c : rounded(c);
    sin = exact ? s : rounded(s);
  }
  double skip, out, cos, sin;  // of the input and of the answer; what a hop to here mixes
};

const std::array<double, kMostHops>& hops() {
  static const std::array<double, kMostHops> angles = {std::numbers::pi / 2, std::atan(15.0), std::atan(5.0),
                                                       std::atan(5.0 / 3.0)};
  return angles;
}

// What a step changes. State::caches holds counters, then pages of keys, oldest first and one tensor a block, then the tails
// of the decoder.
struct Going {
  int64_t frames = 0;             // latent frames so far
  std::vector<at::Tensor> pages;  // [2,1,N,heads,head_dim]
  CodecCache decoder;
};

std::string context_name(const char* kind, size_t block) {
  return std::string(kind) + "." + std::to_string(block);
}

class CosmosCausalWorld final : public World {
 public:
  CosmosCausalWorld(const ModelDescription& model, const LoadOptions& options) : prompt_(PromptParts::of(model, options)) {
    for (const ComponentDescription& part : model.components) {
      if (part.name == "vae")
        vae_ = std::dynamic_pointer_cast<const Autoencoder>(
            std::shared_ptr<const Component>(load_component(part, options.as_stored())));
      if (part.name == "transformer")
        network_ = std::dynamic_pointer_cast<const CosmosTransformer3DModel>(
            std::shared_ptr<const Component>(load_component(part, options)));
    }
    if (!vae_ || !network_ || network_->config().actions_per_latent_frame == 0)
      throw Error(ErrorKind::kConfig,
                  {.place = model.path.string(),
                   .what = "lacks a part of this world",
                   .expected = "a network that takes the actions of each latent frame, and its tokenizer"});
    const CosmosTransformerConfig& config = network_->config();
    actions_.emplace(CosmosActions(config.action_features, config.actions_per_latent_frame).by_latent_frame());
    height_ = model.index.get<int64_t>("sample_height", 256);
    width_ = model.index.get<int64_t>("sample_width", 320);
    check_multiple(height_, width_, 2 * vae_->spec().spatial_stride);
    window_ = model.index.get<int64_t>("window_frames", kTrainedFrames);
    const auto steps = model.index.get<int64_t>("num_inference_steps", kMostHops);
    if (window_ < 1 || steps < 1 || steps > static_cast<int64_t>(kMostHops))
      throw Error(ErrorKind::kConfig, {.place = model.index.place(),
                                       .what = "num_inference_steps or window_frames do not fit",
                                       .expected = "1 … 4 steps, a window of at least one frame"});
    steps_ = static_cast<size_t>(steps);
    beside_.emplace(options.device);
  }

  const ActionSpace& action_space() const override { return actions_->space(); }
  int64_t height() const override { return height_; }
  int64_t width() const override { return width_; }

  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    if (observed.num_frames() < 1)
      throw Error(ErrorKind::kArgument, {.place = "observation", .what = "has no frame", .expected = "a picture"});
    State state;
    state.seed = seed;
    follow(state, prompt);
    const Video newest{observed.frames.narrow(0, observed.num_frames() - 1, 1), observed.fps};
    const at::Tensor picture = to_input(resize(newest, {.height = height_, .width = width_})).to(device());
    const at::Tensor latent = vae_->normalization().apply(vae_->encode(picture).latent);
    Going going;
    CosmosContext context = context_of(state);
    remember(latent, context, {}, going);
    decode(latent, 0, going);
    state.frame = 1;
    state.last = latent;
    pack(going, state);
    return state;
  }

  bool takes_prompt() const override { return true; }

  // The cross-attention's keys are all that depends on words. Source: the reference computes them anew in each pass.
  void follow(State& state, const WorldPrompt& prompt) const override {
    const at::Tensor& given = prompt.conditions.text;
    const at::Tensor text = given.defined() ? given : prompt_.embed({prompt.text}, embed_chat).front();
    const auto keys = network_->cross_keys(text.to(device(), at::kFloat));
    for (size_t i = 0; i < keys.size(); ++i) {
      state.context[context_name("key", i)] = keys[i].key;
      state.context[context_name("value", i)] = keys[i].value;
    }
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const override {
    Going going = unpack(state);
    const at::Tensor first = first_noise(state, going.frames, noise);
    CosmosContext context = context_of(state);
    const at::Tensor rows = actions_->normalised(held(action)).to(device());
    turn_to(context, going, rows, /*known=*/false);
    at::Tensor sample = first, clean;
    for (size_t i = 0; i < steps_; ++i) {
      const Angle angle(hops()[i]);
      if (i > 0) sample = clean * angle.cos + first * angle.sin;
      clean = denoised(sample, angle, context, nullptr);
    }
    // Decoded while the network looks at the frame once more for its keys.
    const at::Tensor pixels = beside_->run([&] { return decode(clean, going.frames, going); });
    remember(clean, context, rows, going);
    beside_->join();
    state.frame += pixels.size(2);
    state.last = clean;
    pack(going, state);
    return pixels.clamp(-1, 1).squeeze(0).transpose(0, 1).contiguous();  // [T,3,H,W]
  }

 private:
  std::vector<int64_t> shape() const {
    const CodecSpec& codec = vae_->spec();
    return {1, codec.latent_channels, 1, height_ / codec.spatial_stride, width_ / codec.spatial_stride};
  }
  size_t layers() const { return static_cast<size_t>(network_->config().num_layers); }

  // One row is held for the whole latent frame.
  at::Tensor held(const std::vector<double>& action) const {
    const ActionSpace& space = actions_->space();
    const at::Tensor given = at::tensor(action, at::kDouble).view({-1, space.width});
    if (given.size(0) == 1) return given.expand({space.rows_per_step, -1});
    if (given.size(0) == space.rows_per_step) return given;
    throw Error(ErrorKind::kArgument, {.place = "action",
                                       .what = "does not fill a latent frame",
                                       .expected = "1 row, or " + std::to_string(space.rows_per_step),
                                       .got = std::to_string(given.size(0)) + " rows"});
  }

  at::Tensor first_noise(const State& state, int64_t frame, const at::Tensor& given) const {
    const auto wanted = shape();
    if (given.defined()) return given.to(at::kFloat).reshape(wanted);
    return normal_noise({1, wanted[1], wanted[3], wanted[4]}, state.seed, static_cast<uint32_t>(frame))
        .unsqueeze(2)
        .to(device());
  }

  CosmosContext context_of(const State& state) const {
    CosmosContext context;
    for (size_t i = 0; i < layers(); ++i) {
      CosmosCrossKeys keys;
      keys.key = state.context.at(context_name("key", i));
      keys.value = state.context.at(context_name("value", i));
      context.cross_keys.push_back(std::move(keys));
    }
    return context;
  }

  void turn_to(CosmosContext& context, const Going& going, const at::Tensor& rows, bool known) const {
    network_->at_frame(context, shape(), going.frames, rows, known);
    context.past.clear();
    if (going.pages.empty()) return;
    for (size_t block = 0; block < layers(); ++block) {
      std::vector<at::Tensor> pages;
      for (size_t page = block; page < going.pages.size(); page += layers()) pages.push_back(going.pages[page]);
      context.past.push_back(at::cat(pages, 2));
    }
  }

  at::Tensor denoised(const at::Tensor& sample, const Angle& angle, const CosmosContext& context,
                      std::vector<at::Tensor>* own) const {
    const at::Tensor told =
        network_->look(sample * angle.skip, at::full({1, 1}, -angle.out, sample.options()), context, own);
    return sample * angle.skip + told * angle.out;
  }

  // Looks at a finished frame once more for the keys that later frames see.
  void remember(const at::Tensor& latent, CosmosContext& context, const at::Tensor& rows, Going& going) const {
    const bool given = going.frames == 0;
    turn_to(context, going, rows, given);
    std::vector<at::Tensor> own;
    denoised(latent, Angle(given ? std::atan(kSigmaConditional) : 0, /*exact=*/true), context, &own);
    going.pages.insert(going.pages.end(), own.begin(), own.end());
    const size_t kept = static_cast<size_t>(window_ - 1) * layers();
    if (going.pages.size() > kept) going.pages.erase(going.pages.begin(), going.pages.end() - static_cast<int64_t>(kept));
    ++going.frames;
  }

  at::Tensor decode(const at::Tensor& latent, int64_t frame, Going& going) const {
    return vae_->decode_chunk(vae_->normalization().undo(latent, frame), going.decoder, /*last=*/false);
  }

  void pack(const Going& going, State& state) const {
    state.caches = {at::tensor(std::vector<int64_t>{going.frames, going.decoder.position}, at::kLong)};
    state.caches.insert(state.caches.end(), going.pages.begin(), going.pages.end());
    for (const at::Tensor& slot : going.decoder.slots)
      state.caches.push_back(slot.defined() ? slot : at::empty({0}, at::kFloat));
  }

  size_t pages_at(int64_t frames) const { return static_cast<size_t>(std::min(frames, window_ - 1)) * layers(); }

  Going unpack(const State& state) const {
    Going going;
    going.frames = state.caches[0][0].item<int64_t>();
    going.decoder.position = state.caches[0][1].item<int64_t>();
    const auto pages = state.caches.begin() + 1, slots = pages + static_cast<int64_t>(pages_at(going.frames));
    going.pages.assign(pages, slots);
    for (auto slot = slots; slot != state.caches.end(); ++slot)
      going.decoder.slots.push_back(slot->numel() > 0 ? *slot : at::Tensor());
    return going;
  }

  // The tails of the decoder have sizes that only it knows, and it checks them.
  void verify(const State& state) const override {
    const CosmosBlockConfig& block = network_->config().block;
    const auto sizes = shape();
    const int64_t tokens = sizes[3] / 2 * (sizes[4] / 2);
    bool right = !state.caches.empty() && state.caches[0].scalar_type() == at::kLong && state.caches[0].numel() == 2 &&
                 state.caches[0][0].item<int64_t>() > 0 && state.context.size() == 2 * layers();
    const size_t pages = right ? pages_at(state.caches[0][0].item<int64_t>()) : 0;
    right = right && state.caches.size() > pages;
    for (size_t i = 1; right && i <= pages; ++i)
      right = state.caches[i].scalar_type() == at::kFloat &&
              state.caches[i].sizes().equals({2, 1, tokens, block.num_attention_heads, block.attention_head_dim});
    for (size_t i = 0; right && i < layers(); ++i)
      for (const char* kind : {"key", "value"}) {
        const auto found = state.context.find(context_name(kind, i));
        right = right && found != state.context.end() && found->second.dim() == 4 &&
                found->second.scalar_type() == at::kFloat && found->second.size(2) == block.num_attention_heads &&
                found->second.size(3) == block.attention_head_dim;
      }
    if (!right)
      throw Error(ErrorKind::kArgument, {.place = "state", .what = "holds tensors of other shapes than this world's"});
  }

  PromptParts prompt_;
  std::shared_ptr<const Autoencoder> vae_;
  std::shared_ptr<const CosmosTransformer3DModel> network_;
  std::optional<CosmosActions> actions_;
  int64_t height_ = 0, width_ = 0, window_ = kTrainedFrames;
  size_t steps_ = kMostHops;
  std::optional<layers::Beside> beside_;
};

}  // namespace

std::unique_ptr<World> build_cosmos_causal_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<CosmosCausalWorld>(model, options);
}

}  // namespace orrery::models

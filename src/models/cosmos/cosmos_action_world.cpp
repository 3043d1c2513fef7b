// Robots in chunks: Predict2's and Predict2.5's action-conditioned checkpoints as worlds to act in. Source:
// nvidia-cosmos/cosmos-predict2 examples/video2world_action.py at 661da47; cosmos-transfer2.5
// predict2/action/inference/inference.py at 2ff49d0.
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "models/cosmos/cosmos_actions.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/noise.h"
#include "orrery/pipeline.h"

namespace orrery::models {
namespace {

constexpr const char* kText = "text";  // in State::context

// A state is the newest picture, 8 bits as the reference hands it on, and the prompt.
class CosmosActionWorld final : public World {
 public:
  CosmosActionWorld(const ModelDescription& model, const LoadOptions& options)
      : pipeline_(WorldModelPipeline::from_pretrained(model.path.string(), options)),
        actions_(cosmos_action_space(model)),
        text_is_needed_(model.class_name == "ActionVideo2WorldInference") {
    const GenerationDefaults defaults = pipeline_.defaults();
    height_ = model.index.get<int64_t>("sample_height", defaults.height);
    width_ = model.index.get<int64_t>("sample_width", defaults.width);
    steps_ = model.index.get<int64_t>("num_inference_steps", defaults.steps);
  }

  const ActionSpace& action_space() const override { return actions_; }
  int64_t height() const override { return height_; }
  int64_t width() const override { return width_; }

  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    if (observed.num_frames() < 1)
      throw Error(ErrorKind::kArgument, {.place = "observation", .what = "has no frame", .expected = "a picture"});
    State state;
    state.seed = seed;
    state.frame = 1;
    const Video newest{observed.frames.narrow(0, observed.num_frames() - 1, 1), observed.fps};
    state.caches = {resize(newest, {.height = height_, .width = width_}).frames.contiguous()};
    if (text_is_needed_ || !prompt.text.empty() || prompt.conditions.text.defined()) follow(state, prompt);
    return state;
  }

  bool takes_prompt() const override { return true; }

  void follow(State& state, const WorldPrompt& prompt) const override {
    const at::Tensor& given = prompt.conditions.text;
    state.context[kText] = given.defined() ? given.to(at::kFloat) : pipeline_.embed_prompt(prompt.text);
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const override {
    GenerateOptions options;
    options.seen = to_input({state.caches[0], 0});
    options.actions = rows(action);
    options.height = height_;
    options.width = width_;
    options.steps = steps_;
    if (const auto text = state.context.find(kText); text != state.context.end()) options.prompt_embeds = text->second;
    options.noise = noise.defined() ? noise.unsqueeze(0) : draws(state);
    const Generated chunk = pipeline_.generate(options);
    const at::Tensor fresh = chunk.video.slice(2, 1);  // the first is the one that was seen
    const at::Tensor last = as_written_pictures(fresh.slice(2, -1));
    state.caches = {to_video(last, 0).frames.contiguous()};
    state.last = chunk.latents.select(2, chunk.latents.size(2) - 1).clone();
    state.frame += fresh.size(2);
    return fresh.clamp(-1, 1).squeeze(0).transpose(0, 1).contiguous();  // [T,3,H,W]
  }

 private:
  // One row is held for the whole chunk.
  at::Tensor rows(const std::vector<double>& action) const {
    const at::Tensor given = at::tensor(action, at::kDouble).view({-1, actions_.width});
    if (given.size(0) == 1) return given.expand({actions_.rows_per_step, -1});
    if (given.size(0) == actions_.rows_per_step) return given;
    throw Error(ErrorKind::kArgument, {.place = "action",
                                       .what = "does not fill a chunk",
                                       .expected = "1 row, or " + std::to_string(actions_.rows_per_step),
                                       .got = std::to_string(given.size(0)) + " rows"});
  }

  // As a long future draws them: the noise of a latent frame depends on the seed and its number.
  at::Tensor draws(const State& state) const {
    const CodecSpec& codec = pipeline_.autoencoder()->spec();
    const int64_t frames = codec.latent_frames(1 + actions_.rows_per_step),
                  chunk = (state.frame - 1) / actions_.rows_per_step;
    std::vector<at::Tensor> each;
    for (int64_t i = 0; i < frames; ++i)
      each.push_back(normal_noise({1, codec.latent_channels, height_ / codec.spatial_stride, width_ / codec.spatial_stride},
                                  state.seed, static_cast<uint32_t>(chunk * frames + i)));
    return at::stack(each, 2);
  }

  void verify(const State& state) const override {
    const bool right = state.caches.size() == 1 && state.caches[0].scalar_type() == at::kByte &&
                       state.caches[0].sizes().equals({1, height_, width_, 3}) && state.frame >= 1 &&
                       (state.frame - 1) % actions_.rows_per_step == 0 &&
                       (state.context.empty() || (state.context.size() == 1 && state.context.contains(kText)));
    if (!right)
      throw Error(ErrorKind::kArgument, {.place = "state", .what = "holds tensors of other shapes than this world's"});
  }

  WorldModelPipeline pipeline_;
  ActionSpace actions_;
  bool text_is_needed_;
  int64_t height_ = 0, width_ = 0, steps_ = 0;
};

}  // namespace

std::unique_ptr<World> build_cosmos_action_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<CosmosActionWorld>(model, options);
}

}  // namespace orrery::models

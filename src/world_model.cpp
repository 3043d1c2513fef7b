#include "orrery/world_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "guarded.h"
#include "models/registry.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/pipeline.h"
#include "orrery/tokenizer.h"
#include "orrery/world.h"

namespace orrery {

struct WorldModel::Impl {
  std::string path;
  std::unique_ptr<World> world;  // one of these two
  std::optional<WorldModelPipeline> pipeline;
  std::optional<Tokenizer> tokenizer;

  Latents rollout(const Video& seen, const FutureOptions& options) const;
};

WorldModel::WorldModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WorldModel::~WorldModel() = default;
WorldModel::WorldModel(WorldModel&&) noexcept = default;
WorldModel& WorldModel::operator=(WorldModel&&) noexcept = default;

WorldModel WorldModel::from_pretrained(const std::string& path, const LoadOptions& options) {
  const ModelDescription model = describe_model(path, options.work);
  const auto& worlds = models::world_entries();
  const bool acts =
      std::any_of(worlds.begin(), worlds.end(), [&](const auto& entry) { return entry.class_name == model.class_name; });
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  if (acts) {
    impl->world = World::from_pretrained(path, options);
    impl->tokenizer = Tokenizer::from_pretrained(path, options);
  } else {
    impl->pipeline = WorldModelPipeline::from_pretrained(path, options);
    impl->tokenizer.emplace(impl->pipeline->autoencoder());
  }
  return WorldModel(std::move(impl));
}

Action WorldModel::encode_action(const std::string& name) const {
  if (impl_->world) return impl_->world->encode_action(name);
  throw Error(ErrorKind::kUnsupported,
              {.place = impl_->path, .what = "is no world to act in", .hint = "tell it in words: FutureOptions::prompt"});
}

Latents WorldModel::Impl::rollout(const Video& seen, const FutureOptions& options) const {
  if (!options.prompt.empty())
    throw Error(ErrorKind::kArgument, {.place = path, .what = "takes no prompt", .hint = "give an action"});
  const ActionSpace& space = world->action_space();
  if (!options.actions.empty() && static_cast<int64_t>(options.actions.size()) < options.num_frames)
    throw Error(ErrorKind::kArgument, {.place = "actions",
                                       .what = "are too few",
                                       .expected = std::to_string(options.num_frames) + " rows",
                                       .got = std::to_string(options.actions.size())});
  State state = world->begin(seen, options.seed);
  std::vector<at::Tensor> frames;
  int64_t imagined = 0;
  while (imagined < options.num_frames) {  // a step of some worlds takes several rows and brings several frames
    Action action = options.action;
    const auto rows = std::min<size_t>(options.actions.size(), static_cast<size_t>(imagined + space.rows_per_step));
    for (auto row = static_cast<size_t>(imagined); row < rows; ++row)
      action.insert(action.end(), options.actions[row].begin(), options.actions[row].end());
    frames.push_back(world->step(state, action).transpose(0, 1).unsqueeze(0));  // [1,3,T,H,W]
    imagined += frames.back().size(2);
  }
  at::Tensor future = at::cat(frames, 2).slice(2, 0, options.num_frames);
  // A tokenizer that codes 1 + s·n frames codes these behind the newest seen one.
  const int64_t stride = tokenizer->spec().temporal_stride;
  if (stride > 1 && options.num_frames % stride == 0) {
    const Video newest{seen.frames.narrow(0, seen.num_frames() - 1, 1), seen.fps};
    future = at::cat({to_input(resize(newest, {.height = world->height(), .width = world->width()})), future}, 2);
  }
  return tokenizer->encode(to_video(future, space.rate_hz));
}

Latents WorldModel::generate(const Latents& seen, const FutureOptions& options) const {
  return guarded(impl_->path, [&]() -> Latents {
    if (impl_->world) return impl_->rollout(impl_->tokenizer->decode(seen), options);
    if (!options.action.empty() || !options.actions.empty())
      throw Error(ErrorKind::kArgument, {.place = impl_->path, .what = "takes no action", .hint = "give a prompt"});
    GenerateOptions generate;
    generate.prompt = options.prompt;
    generate.num_frames = options.num_frames;
    generate.seed = options.seed;
    if (seen.video.defined()) generate.seen = to_input(impl_->tokenizer->decode(seen));
    return impl_->pipeline->generate_latents(generate).normalized;
  });
}

}  // namespace orrery

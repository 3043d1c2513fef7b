#include "pipeline/token_sharpener.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "pipeline/stages.h"
#include "sampling/noise.h"
#include "sampling/schedule.h"
#include "sampling/solver.h"

namespace orrery::pipeline {
namespace {

// Latent frames that windows share, and pixel frames over which they are blended: one number, as in the original.
constexpr int64_t kOverlap = 2;

// `count` latent frames of tokens [1,t,h,w] from `first` on; at their end they run back again.
at::Tensor mirrored(const at::Tensor& tokens, int64_t first, int64_t count) {
  std::vector<int64_t> places;
  const int64_t last = tokens.size(1) - 1;
  for (int64_t i = first; i < first + count; ++i) places.push_back(i <= last ? i : std::max<int64_t>(0, 2 * last - i));
  return tokens.index_select(1, at::tensor(places, at::kLong).to(tokens.device()));
}

}  // namespace

at::Tensor blended(const std::vector<at::Tensor>& clips, int64_t overlap) {
  at::Tensor whole = clips.front();
  const at::Tensor rising = at::linspace(0, 1, overlap, clips.front().options()).view({overlap, 1, 1});
  for (size_t i = 1; i < clips.size(); ++i) {
    const int64_t before = whole.size(2) - overlap;
    const at::Tensor fade = at::lerp(whole.narrow(2, before, overlap), clips[i].narrow(2, 0, overlap), rising);
    whole = at::cat({whole.narrow(2, 0, before), fade, clips[i].slice(2, overlap)}, 2);
  }
  return whole;
}

TokenSharpener::TokenSharpener(const std::string& path, const LoadOptions& options) {
  const ModelDescription model = describe_model(path, options.work);
  DiffusionParts parts;
  for (const ComponentDescription& part : model.components) {
    if (part.name == "transformer") parts.components[part.name] = load_component(part, options);
    if (part.name == "scheduler") parts.scheduler = part.config;
    if (part.name == "vae") {
      const std::shared_ptr<const Component> vae = load_component(part, options);
      autoencoder_ = std::dynamic_pointer_cast<const Autoencoder>(vae);
    }
  }
  if (!autoencoder_ || parts.components.empty())
    throw Error(ErrorKind::kConfig, {.place = path,
                                     .what = "is no diffusion decoder of tokens",
                                     .expected = "its network, and the continuous tokenizer in its folder or beside it"});
  parts.codec = autoencoder_->spec();
  scheduler_ = parts.scheduler;
  recipe_ = models::pipeline_entry_of(model.class_name, path).build(parts);
  generic_text_ = Weights::open(model.path / "aux_vars.pt").stored("context").to(options.device, at::kFloat);
}

at::Tensor TokenSharpener::sharpen(const Task& task, const WorkOptions& work) const {
  const GenerationDefaults& numbers = models::preset_of(recipe_->form(), Compat::kOriginal, "").numbers;
  const CodecSpec& codec = autoencoder_->spec();
  recipe_->check(task.frames, task.height, task.width, 0);
  const int64_t latents = codec.latent_frames(numbers.num_frames), step = latents - kOverlap;
  const int64_t windows = std::max<int64_t>(1, (task.tokens.size(1) - kOverlap + step - 1) / step);
  DiffusionInputs inputs;
  inputs.device = autoencoder_->device();
  inputs.shape = {1, recipe_->latent_channels(), latents, task.height / codec.spatial_stride,
                  task.width / codec.spatial_stride};
  inputs.guidance_scale = numbers.guidance_scale;
  inputs.original = true;
  inputs.conditions.text = task.text.defined() ? task.text : generic_text_;
  inputs.conditions.fps = numbers.fps;
  const sampling::Schedule schedule = sampling::make_schedule(scheduler_, {.steps = numbers.steps});

  ProgressMeter meter(work, "sharpen", windows * schedule.steps());
  std::unique_ptr<DiffusionRun> run;
  std::vector<at::Tensor> clips;
  for (int64_t window = 0; window < windows; ++window) {
    const at::Tensor tokens = mirrored(task.tokens, window * step, latents);
    inputs.conditions.controls = {{.kind = "tokens", .video = tokens.unsqueeze(1)}};
    if (run)
      run->next_window(inputs);
    else
      run = recipe_->begin(inputs);
    const sampling::NoiseKey key{.seed = task.seed, .frame = static_cast<uint32_t>(window * latents)};
    at::Tensor sample =
        task.noise.defined() ? task.noise.narrow(0, window, 1) : sampling::latent_noise(inputs.shape, key, inputs.device);
    sample = sample * recipe_->noise_scale();
    const auto solver = sampling::make_solver(scheduler_, schedule, key);
    for (int64_t i = 0; i < schedule.steps(); ++i) {
      const sampling::Row& row = schedule.rows[static_cast<size_t>(i)];
      sample = solver->step(i, sample, run->velocity(sample, {row.sigma, row.time}));
      meter.tell(window * schedule.steps() + i + 1);
    }
    const at::Tensor latent = autoencoder_->normalization().undo(recipe_->to_codec(sample));
    clips.push_back(autoencoder_->decode(latent).clamp(-1, 1));
  }
  return blended(clips, kOverlap).slice(2, 0, task.frames);
}

}  // namespace orrery::pipeline

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "orrery/error.h"
#include "pipeline/decoding.h"
#include "pipeline/future.h"
#include "pipeline/generator.h"
#include "pipeline/ladder.h"
#include "pipeline/parts.h"
#include "pipeline/prompts.h"
#include "pipeline/stages.h"
#include "placement.h"

namespace orrery::pipeline {
namespace {

// How a future of so many frames is made.
struct Windows {
  int64_t count = 1, frames = 0, overlap = 0;
};

// A control video is as long as the future, and actions steer each frame behind the first, unless the caller wants less.
int64_t frames_wanted(const Parts& parts, const GenerateOptions& options) {
  if (options.actions.defined() && options.actions.dim() > 0)
    return options.num_frames.value_or(1 + options.actions.size(0));
  const int64_t usual = options.controls.empty() ? parts.preset(options.compat, options.preset).numbers.num_frames
                                                 : options.controls.front().video.size(2);
  return options.num_frames.value_or(usual);
}

Windows plan(const Parts& parts, const GenerateOptions& options) {
  const GenerationDefaults& defaults = parts.preset(options.compat, options.preset).numbers;
  const int64_t total = frames_wanted(parts, options);
  Windows windows{.frames = options.window_frames.value_or(defaults.num_frames)};
  // What is steered by actions is imagined in whole windows, whatever is kept of them.
  const bool acting = parts.recipe->action_space() != nullptr;
  if (total <= windows.frames && !acting) return {.frames = total};
  windows.overlap = options.overlap_frames.value_or(parts.recipe->overlap_frames());
  if (parts.recipe->overlap_frames() == 0) {
    if (!options.window_frames) return {.frames = total};  // one window, however long
    throw Error(ErrorKind::kArgument, {.place = parts.class_name,
                                       .what = "cannot go on from frames, so it imagines one window only",
                                       .expected = "at most " + std::to_string(windows.frames) + " frames",
                                       .got = std::to_string(total)});
  }
  if (windows.overlap < 1 || windows.overlap >= windows.frames)
    throw Error(ErrorKind::kArgument, {.place = "overlap",
                                       .what = "leaves nothing to imagine",
                                       .expected = "1 … " + std::to_string(windows.frames - 1) + " frames",
                                       .got = std::to_string(windows.overlap)});
  if (acting && windows.overlap != parts.recipe->overlap_frames())
    throw Error(ErrorKind::kArgument, {.place = "overlap",
                                       .what = "does not fit a chunk of actions",
                                       .expected = std::to_string(parts.recipe->overlap_frames()),
                                       .got = std::to_string(windows.overlap)});
  if (options.last_image.defined() && total > windows.frames)
    throw Error(ErrorKind::kArgument, {.place = "last image",
                                       .what = "needs the whole future in one window",
                                       .expected = "at most " + std::to_string(windows.frames) + " frames",
                                       .got = std::to_string(total)});
  const int64_t fresh = windows.frames - windows.overlap;
  windows.count = 1 + std::max<int64_t>(0, total - windows.frames + fresh - 1) / fresh;
  return windows;
}

// Whether model_index.json lists a class under this name, and not [null, null].
bool names_part(const Config& index, const std::string& name) {
  if (!index.is_array(name)) return false;
  try {
    return index.require<std::vector<std::string>>(name).size() == 2;
  } catch (const Error&) {
    return false;
  }
}

class DiffusionPipeline final : public Generator {
 public:
  DiffusionPipeline(const ModelDescription& model, const LoadOptions& options, int64_t max_memory);

  GenerationDefaults defaults(Compat compat, const std::string& preset) const override;
  at::Tensor embed_prompt(const std::string& prompt, const WorkOptions& work) const override {
    return embed_prompts(parts_, {prompt}, work).front();
  }
  Generated generate_latents(const GenerateOptions& options) const override;
  Generated generate(const GenerateOptions& options, const FrameSink& sink) const override;

 private:
  void check(const GenerateOptions& options) const;
  void load(const ModelDescription& model, const LoadOptions& options);
  template <typename Work>
  void denoise(const Work& work) const;

  Ladder ladder_;
  Parts parts_;
};

DiffusionPipeline::DiffusionPipeline(const ModelDescription& model, const LoadOptions& options, int64_t max_memory)
    : Generator(model.class_name), ladder_(model.components, max_memory, options) {
  try {
    load(model, options);
  } catch (...) {
    rethrow_with_rung(model.path.string(), ladder_.next_rung(/*loading=*/true));
  }
}

void DiffusionPipeline::load(const ModelDescription& model, const LoadOptions& options) {
  const models::PipelineEntry& entry = models::pipeline_entry_of(model.class_name, model.path.string());

  const LoadOptions as_stored = options.as_stored();
  DiffusionParts loaded;
  loaded.index = model.index;
  for (const ComponentDescription& component : ladder_.parts()) {
    if (component.name == "scheduler") {
      loaded.scheduler = entry.scheduler ? entry.scheduler(component.config) : component.config;
    } else if (component.name == "vae") {
      const std::shared_ptr<const Component> vae = load_component(component, as_stored);
      autoencoder_ = std::dynamic_pointer_cast<const Autoencoder>(vae);
    } else if (component.name == "image_encoder") {
      parts_.image_encoder = component;
    } else if (component.name == "image_processor") {
      parts_.image_processor = component.config;
    } else if (component.name.starts_with("transformer") || component.name.starts_with("controlnet")) {
      if (component.dialect == "original") parts_.published = Compat::kOriginal;
      loaded.components[component.name] = load_component(component, options);
    }
  }
  for (const LoraFile& lora : options.loras)
    if (!lora.component.empty() && !loaded.components.contains(lora.component))
      throw Error(ErrorKind::kArgument,
                  {.place = lora.path.string(),
                   .what = "is a LoRA for '" + lora.component + "', which this model does not have",
                   .hint = "leave the name out, or name a denoising network that `orrery inspect` lists"});
  const auto need = [&](const char* name, bool there) {
    if (there) return;
    throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                     .what = std::string("the part '") + name + "' is missing",
                                     .hint = "is the download complete?"});
  };
  need("vae", autoencoder_ != nullptr);
  for (const std::string& name : model.index.keys())  // the networks that model_index.json names
    if (name.starts_with("transformer") || name.starts_with("controlnet"))
      need(name.c_str(), loaded.components.contains(name) || !names_part(model.index, name));
  loaded.codec = autoencoder_->spec();
  parts_.load = as_stored;
  parts_.prompt = PromptParts::of(model, as_stored);
  parts_.scheduler = loaded.scheduler;
  parts_.recipe = entry.build(loaded);
  need("scheduler", parts_.recipe->makes_pieces() || !loaded.scheduler.keys().empty());
  parts_.class_name = class_name_;
  parts_.autoencoder = autoencoder_;
}

GenerationDefaults DiffusionPipeline::defaults(Compat compat, const std::string& preset) const {
  return parts_.preset(compat, preset).numbers;
}

void DiffusionPipeline::check(const GenerateOptions& options) const {
  if (options.temperature || options.top_p || options.top_k || options.greedy)
    throw Error(ErrorKind::kArgument, {.place = "temperature, top-p, top-k or greedy",
                                       .what = "cannot be used: " + class_name_ + " does not draw tokens"});
}

// What a network does to its latents, and to what is known.
template <typename Work>
void DiffusionPipeline::denoise(const Work& work) const {
  try {
    work();
  } catch (...) {
    rethrow_with_rung(class_name_, ladder_.next_rung(/*loading=*/false));
  }
}

Generated DiffusionPipeline::generate_latents(const GenerateOptions& given) const {
  check(given);
  const GenerateOptions options = placed(given, parts_.load.device);
  const int64_t frames = frames_wanted(parts_, options);
  const at::Tensor seen = frames_to_go_on_from(options, *parts_.recipe);
  Generated out;
  denoise([&] { Future(parts_, options, frames, /*windows=*/1, seen).imagine(seen, /*first=*/0, out); });
  out.num_frames = frames;
  return placed(std::move(out), at::kCPU);
}

Generated DiffusionPipeline::generate(const GenerateOptions& given, const FrameSink& sink) const {
  check(given);
  const GenerateOptions options = placed(given, parts_.load.device);
  const Windows windows = plan(parts_, options);
  at::Tensor seen = frames_to_go_on_from(options, *parts_.recipe);
  std::optional<Future> future;
  denoise([&] { future.emplace(parts_, options, windows.frames, windows.count, seen); });
  Generated out;
  out.overlap = windows.overlap;
  out.num_frames = frames_wanted(parts_, options);
  FrameStream stream(sink, options.guardrails, windows.overlap, out.num_frames);
  for (int64_t i = 0; i < windows.count; ++i) {
    denoise([&] { future->imagine(seen, i * (windows.frames - windows.overlap), out); });
    if (options.on_latents) options.on_latents(placed(out, at::kCPU));
    const auto start = std::chrono::steady_clock::now();
    stream.begin_window();
    try {
      decode_window(
          *autoencoder_, out.normalized.video, [&](const at::Tensor& frames) { stream.write(frames); }, options.work);
    } catch (...) {
      rethrow_with_rung(class_name_ + ": decode", "keep the latents and decode them in tiles (orrery decode --tile)");
    }
    out.timings.decode += seconds_since(start);
    if (const at::Tensor tail = stream.tail(); tail.defined()) seen = parts_.recipe->handed_on(tail);
  }
  return placed(std::move(out), at::kCPU);
}

}  // namespace

std::unique_ptr<const Generator> load_diffusion(const ModelDescription& model, const LoadOptions& options,
                                                int64_t max_memory) {
  return std::make_unique<const DiffusionPipeline>(model, options, max_memory);
}

}  // namespace orrery::pipeline

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "guarded.h"
#include "orrery/error.h"
#include "orrery/pipeline.h"
#include "pipeline/decoding.h"
#include "pipeline/future.h"
#include "pipeline/memory.h"
#include "pipeline/parts.h"

namespace orrery {

using pipeline::decode_window;
using pipeline::FrameStream;
using pipeline::Future;

struct WorldModelPipeline::Impl : pipeline::Parts {};

namespace {

// How a future of so many frames is made.
struct Windows {
  int64_t count = 1, frames = 0, overlap = 0;
};

// A control video is as long as the future, unless the caller wants less of it.
int64_t frames_wanted(const pipeline::Parts& parts, const GenerateOptions& options) {
  const int64_t usual = options.controls.empty() ? parts.preset(options.compat, options.preset).numbers.num_frames
                                                 : options.controls.front().video.size(2);
  return options.num_frames.value_or(usual);
}

Windows plan(const pipeline::Parts& parts, const GenerateOptions& options) {
  const GenerationDefaults& defaults = parts.preset(options.compat, options.preset).numbers;
  const int64_t total = frames_wanted(parts, options);
  Windows windows{.frames = options.window_frames.value_or(defaults.num_frames)};
  if (total <= windows.frames) return {.frames = total};
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
  if (options.last_image.defined())
    throw Error(ErrorKind::kArgument, {.place = "last image",
                                       .what = "needs the whole future in one window",
                                       .expected = "at most " + std::to_string(windows.frames) + " frames",
                                       .got = std::to_string(total)});
  const int64_t fresh = windows.frames - windows.overlap;
  windows.count = 1 + (total - windows.frames + fresh - 1) / fresh;
  return windows;
}

}  // namespace

WorldModelPipeline::WorldModelPipeline(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WorldModelPipeline::~WorldModelPipeline() = default;
WorldModelPipeline::WorldModelPipeline(WorldModelPipeline&&) noexcept = default;
WorldModelPipeline& WorldModelPipeline::operator=(WorldModelPipeline&&) noexcept = default;

WorldModelPipeline WorldModelPipeline::from_pretrained(const std::string& path, const LoadOptions& options,
                                                       int64_t max_memory) {
  const c10::InferenceMode inference;
  const ModelDescription model = describe_model(path, options.work);
  auto impl = std::make_unique<Impl>();
  impl->class_name = model.class_name;
  const models::PipelineEntry& entry = models::pipeline_entry_of(model.class_name, model.path.string());

  LoadOptions as_stored = options;  // tokenizers and text encoders: another form in memory is for the network that steps
  as_stored.weights = WeightForm::kStored;
  DiffusionParts parts;
  parts.index = model.index;
  for (const ComponentDescription& described : model.components) {
    const ComponentDescription component = max_memory > 0 ? pipeline::within(described, max_memory) : described;
    if (component.name == "scheduler") {
      parts.scheduler = entry.scheduler ? entry.scheduler(component.config) : component.config;
    } else if (component.name == "vae") {
      const std::shared_ptr<const Component> vae = load_component(component, as_stored);
      impl->autoencoder = std::dynamic_pointer_cast<const Autoencoder>(vae);
    } else if (component.name == "text_encoder") {
      impl->text_encoder = component;
    } else if (component.name == "tokenizer") {
      impl->text_tokenizer = component;
    } else if (component.name == "image_encoder") {
      impl->image_encoder = component;
    } else if (component.name == "image_processor") {
      impl->image_processor = component.config;
    } else if (component.name.starts_with("transformer") || component.name == "controlnet") {
      if (component.dialect == "original") impl->published = Compat::kOriginal;
      parts.components[component.name] = load_component(component, options);
    }
  }
  for (const LoraFile& lora : options.loras)
    if (!lora.component.empty() && !parts.components.contains(lora.component))
      throw Error(ErrorKind::kArgument, {.place = lora.path.string(),
                                         .what = "is a LoRA for '" + lora.component + "', which this model does not have",
                                         .hint = "leave the name out, or name a denoising network that `orrery inspect` lists"});
  const auto need = [&](const char* name, bool there) {
    if (there) return;
    throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                     .what = std::string("the part '") + name + "' is missing",
                                     .hint = "is the download complete?"});
  };
  need("vae", impl->autoencoder != nullptr);
  parts.codec = impl->autoencoder->spec();
  impl->load = as_stored;
  impl->scheduler = parts.scheduler;
  impl->recipe = entry.build(parts);
  need("scheduler", impl->recipe->makes_pieces() || !parts.scheduler.keys().empty());
  return WorldModelPipeline(std::move(impl));
}

const std::string& WorldModelPipeline::class_name() const {
  return impl_->class_name;
}
GenerationDefaults WorldModelPipeline::defaults(Compat compat, const std::string& preset) const {
  return impl_->preset(compat, preset).numbers;
}
std::shared_ptr<const Autoencoder> WorldModelPipeline::autoencoder() const {
  return impl_->autoencoder;
}

Generated WorldModelPipeline::generate_latents(const GenerateOptions& options) const {
  return guarded(class_name(), [&] {
    const int64_t frames = frames_wanted(*impl_, options);
    const at::Tensor seen = pipeline::frames_to_go_on_from(options, *impl_->recipe);
    Generated out;
    Future(*impl_, options, frames, /*windows=*/1, seen).imagine(seen, /*first=*/0, out);
    out.num_frames = frames;
    return out;
  });
}

void WorldModelPipeline::decode(const Generated& generated, const FrameSink& sink, const WorkOptions& work) const {
  guarded(class_name() + ": decode", [&] {
    const Guardrails none;
    FrameStream stream(sink, none, generated.overlap, generated.num_frames > 0 ? generated.num_frames : INT64_MAX);
    const std::vector<Latents> alone = {generated.normalized};
    for (const Latents& window : generated.windows.empty() ? alone : generated.windows) {
      stream.begin_window();
      decode_window(
          *impl_->autoencoder, window.video, [&](const at::Tensor& frames) { stream.write(frames); }, work);
    }
  });
}

at::Tensor WorldModelPipeline::decode(const Generated& generated, const WorkOptions& work) const {
  std::vector<at::Tensor> frames;
  decode(
      generated, [&](const at::Tensor& part) { frames.push_back(part); }, work);
  return at::cat(frames, 2);
}

Generated WorldModelPipeline::generate(const GenerateOptions& options, const FrameSink& sink) const {
  return guarded(class_name(), [&] {
    const Windows windows = plan(*impl_, options);
    at::Tensor seen = pipeline::frames_to_go_on_from(options, *impl_->recipe);
    Future future(*impl_, options, windows.frames, windows.count, seen);
    Generated out;
    out.overlap = windows.overlap;
    out.num_frames = frames_wanted(*impl_, options);
    FrameStream stream(sink, options.guardrails, windows.overlap, out.num_frames);
    for (int64_t i = 0; i < windows.count; ++i) {
      future.imagine(seen, i * (windows.frames - windows.overlap), out);
      if (options.on_latents) options.on_latents(out);
      const auto start = std::chrono::steady_clock::now();
      stream.begin_window();
      decode_window(
          *impl_->autoencoder, out.normalized.video, [&](const at::Tensor& frames) { stream.write(frames); }, options.work);
      out.timings.decode += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      seen = stream.tail();
    }
    return out;
  });
}

Generated WorldModelPipeline::generate(const GenerateOptions& options) const {
  std::vector<at::Tensor> frames;
  Generated out = generate(options, [&](const at::Tensor& part) { frames.push_back(part); });
  out.video = at::cat(frames, 2);
  return out;
}

}  // namespace orrery

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "guarded.h"
#include "models/registry.h"
#include "orrery/error.h"
#include "orrery/frame_predictor.h"
#include "orrery/pipeline.h"
#include "orrery/token_predictor.h"
#include "orrery/weights.h"
#include "orrery/work_bytes.h"
#include "pipeline/generator.h"
#include "pipeline/token_parts.h"

namespace orrery {
namespace {

int64_t stored_bytes(const Weights& weights) {
  int64_t bytes = 0;
  for (const std::string& name : weights.names()) bytes += weights.info(name)->bytes;
  return bytes;
}

// A component on tensors without data, and what its weights take in memory.
struct Weighed {
  std::shared_ptr<const Component> component;
  int64_t bytes = 0;

  int64_t work_bytes(at::IntArrayRef shape) const {
    const auto* telling = dynamic_cast<const TellsWorkBytes*>(component.get());
    return telling ? telling->work_bytes(shape) : 0;
  }
};

Weighed weigh(const ComponentDescription& part, WeightForm form) {
  const Weights weights = Weights::open(part.path);
  const auto report = std::make_shared<Weights::Report>();
  const Config config = models::in_form(part.config, form);
  Weighed weighed;
  weighed.component = models::entry_of(part.class_name, weights.place()).build(config, weights.collecting(report));
  models::check_form(config, part.class_name);
  weighed.bytes = stored_bytes(weights) + report->more_bytes;
  return weighed;
}

// What is read off the disk where it is needed takes no memory while the text is embedded; what was made at load does.
int64_t text_bytes(const ComponentDescription& encoder, WeightForm form, int64_t network_bytes) {
  return stored_bytes(Weights::open(encoder.path)) + (form == WeightForm::kStored ? 0 : network_bytes);
}

Error lacks_tokenizer(const ModelDescription& model) {
  return Error(ErrorKind::kConfig, {.place = model.path.string(), .what = "the part 'vae' is missing"});
}

// A future that is drawn from tokens.
MemoryNeed need_of_tokens(const ModelDescription& model, const MemoryQuestion& asked) {
  const Weighed network = weigh(*pipeline::part_with_role(model, "dynamics"), asked.weights);
  const auto* one_by_one = dynamic_cast<const TokenPredictor*>(network.component.get());
  const auto* by_frame = dynamic_cast<const FramePredictor*>(network.component.get());
  const TokenVideoRules rules = one_by_one ? one_by_one->video_rules()
                                : by_frame ? by_frame->video_rules()
                                           : TokenVideoRules();
  if (rules.grid.size() != 3)
    throw Error(ErrorKind::kUnsupported, {.place = model.path.string(), .what = "cannot make videos by itself"});
  const Weighed codec = weigh(pipeline::find_video_tokenizer(model, rules, asked.video_tokenizer, {}), WeightForm::kStored);
  const auto* autoencoder = dynamic_cast<const Autoencoder*>(codec.component.get());
  if (!autoencoder) throw lacks_tokenizer(model);
  const CodecSpec& spec = autoencoder->spec();

  MemoryNeed need{.frames = asked.frames > 0 ? asked.frames : spec.pixel_frames(rules.grid[0]),
                  .height = rules.grid[1] * spec.spatial_stride,
                  .width = rules.grid[2] * spec.spatial_stride};
  const int64_t frames = std::min(spec.latent_frames(need.frames), rules.grid[0]);
  need.denoise = network.bytes + codec.bytes + network.work_bytes({1, frames, rules.grid[1], rules.grid[2]});
  need.decode =
      network.bytes + codec.bytes + codec.work_bytes({1, spec.latent_channels, frames, rules.grid[1], rules.grid[2]});
  if (rules.text_tokens > 0)
    if (const auto text = pipeline::find_text_parts(model, rules, {}); text.encoder)
      need.text = text_bytes(*text.encoder, asked.weights, network.bytes);
  return need;
}

// A world that is driven step by step: its networks look at a clip together, over and over.
MemoryNeed need_of_world(const ModelDescription& model, const std::vector<int64_t>& clip, const MemoryQuestion& asked) {
  std::vector<Weighed> parts;
  const Autoencoder* autoencoder = nullptr;
  MemoryNeed need{.frames = clip.at(0), .height = clip.at(1), .width = clip.at(2)};
  for (const ComponentDescription& part : model.components) {
    if (part.path.empty()) continue;
    parts.push_back(weigh(part, asked.weights));
    if (const auto* found = dynamic_cast<const Autoencoder*>(parts.back().component.get())) autoencoder = found;
    need.denoise += parts.back().bytes;
  }
  if (!autoencoder) throw lacks_tokenizer(model);
  const CodecSpec& spec = autoencoder->spec();
  const int64_t t = spec.latent_frames(clip[0]), h = clip[1] / spec.spatial_stride, w = clip[2] / spec.spatial_stride;
  need.decode = need.denoise;
  int64_t work = 0;
  for (const Weighed& part : parts)
    if (part.component.get() == autoencoder)
      need.decode += part.work_bytes({1, spec.latent_channels, t, h, w});
    else
      work = std::max(work, part.work_bytes({1, t, h, w}));
  need.denoise += work;
  return need;
}

MemoryNeed need_of_diffusion(const ModelDescription& model, const MemoryQuestion& asked) {
  DiffusionParts parts;
  parts.index = model.index;
  Weighed codec;
  std::vector<Weighed> networks;
  int64_t network_bytes = 0;
  Compat compat = Compat::kDiffusers;
  const ComponentDescription* text_encoder = nullptr;
  for (const ComponentDescription& component : model.components) {
    if (component.name == "scheduler") parts.scheduler = component.config;
    if (component.path.empty() || component.name.starts_with("tokenizer")) continue;
    if (component.name == "text_encoder") text_encoder = &component;
    if (component.name == "vae") codec = weigh(component, WeightForm::kStored);
    if (component.name.starts_with("transformer") || component.name.starts_with("controlnet")) {
      if (component.dialect == "original") compat = Compat::kOriginal;
      networks.push_back(weigh(component, asked.weights));
      parts.components[component.name] = networks.back().component;
      network_bytes += networks.back().bytes;
    }
  }
  const auto* autoencoder = dynamic_cast<const Autoencoder*>(codec.component.get());
  if (!autoencoder) throw lacks_tokenizer(model);
  const CodecSpec& spec = parts.codec = autoencoder->spec();
  const auto recipe = models::pipeline_entry_of(model.class_name, model.path.string()).build(parts);
  const GenerationDefaults& numbers = models::preset_of(recipe->form(), compat, "").numbers;
  MemoryNeed need{.frames = asked.frames > 0 ? asked.frames : numbers.num_frames,
                  .height = asked.height > 0 ? asked.height : numbers.height,
                  .width = asked.width > 0 ? asked.width : numbers.width};
  check_multiple(need.height, need.width, 2 * spec.spatial_stride);
  const int64_t shape[] = {1, recipe->latent_channels(), spec.latent_frames(need.frames), need.height / spec.spatial_stride,
                           need.width / spec.spatial_stride};
  for (const Weighed& network : networks) need.denoise = std::max(need.denoise, network.work_bytes(shape));
  need.denoise += network_bytes + codec.bytes;
  need.decode = network_bytes + codec.bytes + codec.work_bytes(shape);
  if (text_encoder) need.text = text_bytes(*text_encoder, asked.weights, network_bytes);
  return need;
}

}  // namespace

MemoryNeed predict_memory(const ModelDescription& model, const MemoryQuestion& asked) {
  return guarded(model.path.string(), [&] {
    for (const models::WorldEntry& world : models::world_entries())
      if (world.class_name == model.class_name && world.clip) return need_of_world(model, world.clip(model), asked);
    return pipeline::is_of_tokens(model) ? need_of_tokens(model, asked) : need_of_diffusion(model, asked);
  });
}

}  // namespace orrery

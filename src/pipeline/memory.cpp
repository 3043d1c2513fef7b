#include <map>
#include <memory>
#include <string>

#include "guarded.h"
#include "models/registry.h"
#include "orrery/error.h"
#include "orrery/pipeline.h"
#include "orrery/weights.h"
#include "orrery/work_bytes.h"

namespace orrery {
namespace {

int64_t stored_bytes(const Weights& weights) {
  int64_t bytes = 0;
  for (const std::string& name : weights.names()) bytes += weights.info(name)->bytes;
  return bytes;
}

// A component on tensors without data.
std::shared_ptr<const Component> hollow(const ComponentDescription& component, const Weights& weights) {
  return models::entry_of(component.class_name, weights.place())
      .build(component.config, weights.collecting(std::make_shared<Weights::Report>()));
}

int64_t work_bytes(const Component& component, at::IntArrayRef latents) {
  const auto* telling = dynamic_cast<const TellsWorkBytes*>(&component);
  return telling ? telling->work_bytes(latents) : 0;
}

}  // namespace

MemoryNeed predict_memory(const ModelDescription& model, int64_t frames, int64_t height, int64_t width) {
  return guarded(model.path.string(), [&] {
    DiffusionParts parts;
    parts.index = model.index;
    std::shared_ptr<const Autoencoder> autoencoder;
    int64_t network_bytes = 0, codec_bytes = 0;
    Compat compat = Compat::kDiffusers;
    MemoryNeed need;
    for (const ComponentDescription& component : model.components) {
      if (component.name == "scheduler") parts.scheduler = component.config;
      if (component.path.empty() || component.name.starts_with("tokenizer")) continue;
      const Weights weights = Weights::open(component.path);
      if (component.name == "text_encoder") need.text = stored_bytes(weights);
      if (component.name == "vae") {
        autoencoder = std::dynamic_pointer_cast<const Autoencoder>(hollow(component, weights));
        codec_bytes = stored_bytes(weights);
      }
      if (component.name.starts_with("transformer") || component.name.starts_with("controlnet")) {
        if (component.dialect == "original") compat = Compat::kOriginal;
        parts.components[component.name] = hollow(component, weights);
        network_bytes += stored_bytes(weights);
      }
    }
    if (!autoencoder) throw Error(ErrorKind::kConfig, {.place = model.path.string(), .what = "the part 'vae' is missing"});
    const CodecSpec& codec = parts.codec = autoencoder->spec();
    const auto recipe = models::pipeline_entry_of(model.class_name, model.path.string()).build(parts);
    const GenerationDefaults& numbers = models::preset_of(recipe->form(), compat, "").numbers;
    need.frames = frames > 0 ? frames : numbers.num_frames;
    need.height = height > 0 ? height : numbers.height;
    need.width = width > 0 ? width : numbers.width;
    check_multiple(need.height, need.width, 2 * codec.spatial_stride);
    const int64_t shape[] = {1, recipe->latent_channels(), codec.latent_frames(need.frames),
                             need.height / codec.spatial_stride, need.width / codec.spatial_stride};
    for (const auto& [name, component] : parts.components)
      need.denoise = std::max(need.denoise, work_bytes(*component, shape));
    need.denoise += network_bytes + codec_bytes;
    need.decode = network_bytes + codec_bytes + work_bytes(*autoencoder, shape);
    return need;
  });
}

}  // namespace orrery

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <sstream>

#include "models/registry.h"
#include "orrery/error.h"
#include "orrery/log.h"
#include "orrery/pipeline.h"
#include "orrery/text.h"
#include "pipeline/stages.h"
#include "sampling/noise.h"
#include "sampling/schedule.h"
#include "sampling/solver.h"
#include "vision/clip_image_processor.h"

namespace orrery {

using pipeline::ProgressMeter;

struct WorldModelPipeline::Impl {
  Config index, scheduler;
  std::string class_name;
  std::shared_ptr<const Autoencoder> autoencoder;
  std::unique_ptr<DiffusionRecipe> recipe;
  std::optional<ComponentDescription> text_encoder, text_tokenizer;  // loaded when a prompt comes
  std::optional<ComponentDescription> image_encoder;                 // loaded when a picture comes
  Config image_processor;
  LoadOptions load;

  void embed_prompts(const GenerateOptions& options, double guidance_scale, DiffusionInputs& inputs) const;
  at::Tensor embed_pictures(const GenerateOptions& options, const at::Tensor& seen) const;
};

namespace {

bool is_finite(const at::Tensor& tensor) { return std::isfinite(tensor.sum(at::kDouble).item<double>()); }

at::Tensor checked_noise(const GenerateOptions& options, at::IntArrayRef shape) {
  if (!options.noise.defined()) return sampling::latent_noise(shape, {.seed = options.seed});
  const at::Tensor noise = options.noise.to(at::kFloat);
  if (noise.sizes() == shape) return noise;
  std::ostringstream expected, got;
  expected << shape;
  got << noise.sizes();
  throw Error(ErrorKind::kArgument,
              {.place = "noise", .what = "has the wrong shape", .expected = expected.str(), .got = got.str()});
}

// A sampler that adds noise takes more than one draw: given together as [K,C,t,h,w], or from the generator.
NoiseDraws noise_draws(const GenerateOptions& options, const std::vector<int64_t>& shape) {
  if (!options.noise.defined())
    return [&options, shape](int64_t draw) {
      return sampling::latent_noise(shape, {.seed = options.seed, .step = static_cast<uint32_t>(draw)});
    };
  if (options.noise.dim() != 5 || options.noise.sizes().slice(1) != at::IntArrayRef(shape).slice(1))
    checked_noise(options, shape);
  return [noise = options.noise.to(at::kFloat)](int64_t draw) {
    if (draw < noise.size(0)) return noise.narrow(0, draw, 1);
    throw Error(ErrorKind::kArgument, {.place = "noise",
                                       .what = "holds too few draws for this sampler",
                                       .expected = "at least " + std::to_string(draw + 1) + " along the first axis",
                                       .got = std::to_string(noise.size(0))});
  };
}

// The last frames of what is given: as many as the caller asks for, or as the model can use.
at::Tensor given_frames(const GenerateOptions& options, const DiffusionRecipe& recipe) {
  if (!options.seen.defined()) return options.seen;
  const int64_t there = options.seen.size(2);
  const int64_t wanted = options.condition_frames.value_or(recipe.usable_frames(there));
  if (wanted < 1 || wanted > there)
    throw Error(ErrorKind::kArgument, {.place = "condition frames",
                                       .what = "are not there",
                                       .expected = "1 … " + std::to_string(there),
                                       .got = std::to_string(wanted)});
  return options.seen.narrow(2, there - wanted, wanted);
}

}  // namespace

WorldModelPipeline::WorldModelPipeline(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WorldModelPipeline::~WorldModelPipeline() = default;
WorldModelPipeline::WorldModelPipeline(WorldModelPipeline&&) noexcept = default;
WorldModelPipeline& WorldModelPipeline::operator=(WorldModelPipeline&&) noexcept = default;

WorldModelPipeline WorldModelPipeline::from_pretrained(const std::string& path, const LoadOptions& options) {
  const c10::InferenceMode inference;
  const ModelDescription model = describe_model(path, options.work);
  auto impl = std::make_unique<Impl>();
  impl->class_name = model.class_name;
  const models::PipelineEntry& entry = models::pipeline_entry_of(model.class_name, model.path.string());

  LoadOptions as_stored = options;  // tokenizers and text encoders: another form in memory is for the network that steps
  as_stored.weights = WeightForm::kStored;
  DiffusionParts parts;
  parts.index = model.index;
  for (const ComponentDescription& component : model.components) {
    if (component.name == "scheduler") {
      parts.scheduler = component.config;
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
    } else if (component.name.starts_with("transformer")) {
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
  impl->index = parts.index;
  impl->load = as_stored;
  impl->scheduler = parts.scheduler;
  impl->recipe = entry.build(parts);
  need("scheduler", impl->recipe->makes_pieces() || !parts.scheduler.keys().empty());
  return WorldModelPipeline(std::move(impl));
}

// Embeds the prompts that are given as text. The encoder, often larger than the network, lives only as long as this takes.
void WorldModelPipeline::Impl::embed_prompts(const GenerateOptions& options, double guidance_scale,
                                             DiffusionInputs& inputs) const {
  const bool embed_negative = guidance_scale > 1 && !inputs.negative_text.defined();
  if (inputs.conditions.text.defined() && !embed_negative) return;
  if (!text_encoder || !text_tokenizer)
    throw Error(ErrorKind::kArgument, {.place = "prompt",
                                       .what = "cannot be embedded: the checkpoint has no text encoder and tokenizer",
                                       .hint = "give --prompt-embeds"});
  ProgressMeter meter(options.work, "text", embed_negative ? 2 : 1);
  const auto tokenizer = TextTokenizer::open(text_tokenizer->path);
  const auto encoder = load_component(*text_encoder, load);
  const auto embed = [&](const std::string& prompt) {
    int64_t cut = 0;
    const at::Tensor embedded = recipe->embed_prompt(*tokenizer, *encoder, prompt, cut);
    if (cut > 0) log(LogLevel::kWarning, "the prompt is too long: its last " + std::to_string(cut) + " tokens were cut off");
    return embedded;
  };
  if (!inputs.conditions.text.defined()) inputs.conditions.text = embed(options.prompt);
  meter.tell(1);
  if (embed_negative) inputs.negative_text = embed(options.negative_prompt.value_or(recipe->defaults().negative_prompt));
}

// The first picture, and the last where it is given: [1 or 2,L,D]. The encoder lives only as long as this takes.
at::Tensor WorldModelPipeline::Impl::embed_pictures(const GenerateOptions& options, const at::Tensor& seen) const {
  if (!image_encoder) return {};
  std::vector<Video> pictures = {options.picture.frames.defined() ? options.picture : to_video(seen.narrow(2, 0, 1), 1)};
  if (options.last_image.defined())
    pictures.push_back(options.last_picture.frames.defined() ? options.last_picture : to_video(options.last_image, 1));
  std::vector<at::Tensor> pixels;
  for (const Video& picture : pictures) pixels.push_back(vision::clip_pixels(picture, image_processor));
  return recipe->embed_pictures(*load_component(*image_encoder, load), at::cat(pixels));
}

const std::string& WorldModelPipeline::class_name() const { return impl_->class_name; }
GenerationDefaults WorldModelPipeline::defaults() const { return impl_->recipe->defaults(); }
std::shared_ptr<const Autoencoder> WorldModelPipeline::autoencoder() const { return impl_->autoencoder; }

Generated WorldModelPipeline::generate_latents(const GenerateOptions& options) const {
  const c10::InferenceMode inference;
  const DiffusionRecipe& recipe = *impl_->recipe;
  const Autoencoder& autoencoder = *impl_->autoencoder;
  const CodecSpec& codec = autoencoder.spec();
  const GenerationDefaults defaults = recipe.defaults();
  const at::Tensor seen = given_frames(options, recipe);
  const int64_t num_frames = options.num_frames.value_or(defaults.num_frames);
  const int64_t height = options.height.value_or(seen.defined() ? seen.size(3) : defaults.height);
  const int64_t width = options.width.value_or(seen.defined() ? seen.size(4) : defaults.width);
  recipe.check(num_frames, height, width, seen.defined() ? seen.size(2) : 0);

  Generated out;
  out.fps = options.fps.value_or(defaults.fps);
  DiffusionInputs inputs;
  inputs.shape = {1, recipe.latent_channels(), codec.latent_frames(num_frames), height / codec.spatial_stride,
                  width / codec.spatial_stride};
  inputs.guidance_scale = options.guidance_scale.value_or(defaults.guidance_scale);
  inputs.conditions.fps = out.fps;
  inputs.conditions.text = options.prompt_embeds;
  inputs.conditions.text_mask = options.prompt_mask;
  inputs.negative_text = options.negative_prompt_embeds;
  inputs.negative_text_mask = options.negative_prompt_mask;

  const auto text_start = std::chrono::steady_clock::now();
  impl_->embed_prompts(options, inputs.guidance_scale, inputs);
  out.timings.text = std::chrono::duration<double>(std::chrono::steady_clock::now() - text_start).count();

  if (seen.defined()) {
    ProgressMeter meter(options.work, "encode", 1);
    at::Tensor clip = recipe.conditioning_clip(seen.to(at::kFloat), num_frames);
    if (options.last_image.defined()) {
      clip = clip.clone();
      clip.narrow(2, clip.size(2) - 1, 1).copy_(options.last_image);
    }
    inputs.history = autoencoder.normalization().apply(autoencoder.encode(clip).latent);
    inputs.history_frames = std::min(seen.size(2), num_frames);
    inputs.last_frame_known = options.last_image.defined();
    inputs.conditions.image = impl_->embed_pictures(options, seen);
    meter.tell(1);
    out.timings.encode = meter.seconds();
  }

  if (recipe.makes_pieces()) {
    ProgressMeter meter(options.work, "denoise", 1);
    out.latents = recipe.make_pieces(inputs, noise_draws(options, inputs.shape), [&](int64_t done, int64_t of) {
      meter.expect(of);
      meter.tell(done);
    });
    if (!is_finite(out.latents))
      throw Error(ErrorKind::kWeights, {.place = "latents",
                                        .what = "are not finite (NaN or infinity)",
                                        .hint = "the checkpoint is damaged, or overflows in this --dtype"});
    out.normalized.video = recipe.to_codec(out.latents);
    out.normalized.fps = out.fps;
    out.timings.denoise = meter.seconds();
    return out;
  }

  sampling::Schedule schedule = sampling::make_schedule(
      impl_->scheduler,
      {.steps = options.steps.value_or(defaults.steps), .flow_shift = options.flow_shift, .unit_ramp = recipe.unit_ramp()});
  if (recipe.repeats_last_sigma()) schedule.sigmas.back() = schedule.sigmas[schedule.steps() - 1];
  const auto solver = sampling::make_solver(impl_->scheduler, schedule);
  at::Tensor sample = checked_noise(options, inputs.shape) * recipe.noise_scale();

  ProgressMeter meter(options.work, "denoise", schedule.steps());
  const auto run = recipe.begin(inputs);
  for (int64_t i = 0; i < schedule.steps(); ++i) {
    sample = solver->step(i, sample, run->velocity(sample, {schedule.sigmas[i], schedule.times[i]}));
    if (!is_finite(sample))
      throw Error(ErrorKind::kWeights, {.place = "step " + std::to_string(i + 1) + " of " + std::to_string(schedule.steps()),
                                        .what = "the latents are not finite (NaN or infinity)",
                                        .hint = "the checkpoint is damaged, or overflows in this --dtype"});
    if (options.on_step) options.on_step(i, sample);
    meter.tell(i + 1);
  }
  out.latents = run->finish(sample);
  out.normalized.video = recipe.to_codec(out.latents);
  out.normalized.fps = out.fps;
  out.timings.denoise = meter.seconds();
  return out;
}

at::Tensor WorldModelPipeline::decode(const Generated& generated, const WorkOptions& work) const {
  const c10::InferenceMode inference;
  ProgressMeter meter(work, "decode", 1);
  const Autoencoder& autoencoder = *impl_->autoencoder;
  const at::Tensor video = autoencoder.decode(autoencoder.normalization().undo(generated.normalized.video));
  meter.tell(1);
  return video;
}

Generated WorldModelPipeline::generate(const GenerateOptions& options) const {
  Generated out = generate_latents(options);
  const auto start = std::chrono::steady_clock::now();
  out.video = decode(out, options.work);
  out.timings.decode = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return out;
}

}  // namespace orrery

// orrery generate: a prompt, a picture or a video to a future.
#include <memory>
#include <nlohmann/json.hpp>

#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/pipeline.h"
#include "orrery/weights.h"
#include "program.h"

namespace program {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  orrery::GenerateOptions generate;
  fs::path image, last_image, video, noise, prompt_embeds, output;
  orrery::ResizeMode fit = orrery::ResizeMode::kStretch;
  bool json = false;
};

const std::map<std::string, orrery::ResizeMode> kFits = {{"stretch", orrery::ResizeMode::kStretch},
                                                         {"crop", orrery::ResizeMode::kCrop},
                                                         {"letterbox", orrery::ResizeMode::kLetterbox}};

at::Tensor named(const orrery::TensorMap& tensors, const std::string& name, const fs::path& path) {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  throw orrery::Error(orrery::ErrorKind::kArgument,
                      {.place = path.string(), .what = "lacks a tensor", .expected = "'" + name + "'"});
}

at::Tensor optional(const orrery::TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? at::Tensor() : found->second;
}

// Frames [1,3,K,H,W] in [-1,1] of a picture or video file, or the tensor of that name of a .safetensors file as it is.
at::Tensor frames_of(const fs::path& path, const char* name, const orrery::ReadOptions& how) {
  if (path.extension() != ".safetensors") return orrery::to_input(orrery::read_video(path, how));
  const at::Tensor frames = named(orrery::load_safetensors(path), name, path);
  return frames.dim() == 4 ? frames.unsqueeze(2) : frames;
}

void read_inputs(Options& options, const orrery::GenerationDefaults& defaults) {
  orrery::GenerateOptions& generate = options.generate;
  orrery::ReadOptions how;
  how.size = {.height = generate.height.value_or(defaults.height), .width = generate.width.value_or(defaults.width), .mode = options.fit};
  if (!options.image.empty()) generate.seen = frames_of(options.image, "image", how);
  if (!options.video.empty()) generate.seen = frames_of(options.video, "video", how);
  if (!options.last_image.empty()) generate.last_image = frames_of(options.last_image, "image", how);
  // A picture encoder looks at the pictures as they came.
  const auto whole = [](const fs::path& path) {
    return path.empty() || path.extension() == ".safetensors" ? orrery::Video() : orrery::read_image(path);
  };
  generate.picture = whole(options.image);
  generate.last_picture = whole(options.last_image);
  if (!options.noise.empty()) generate.noise = named(orrery::load_safetensors(options.noise), "noise", options.noise);
  if (!options.prompt_embeds.empty()) {
    const orrery::TensorMap tensors = orrery::load_safetensors(options.prompt_embeds);
    generate.prompt_embeds = named(tensors, "prompt_embeds", options.prompt_embeds);
    generate.negative_prompt_embeds = optional(tensors, "negative_prompt_embeds");
    generate.prompt_mask = optional(tensors, "prompt_attention_mask");
    generate.negative_prompt_mask = optional(tensors, "negative_prompt_attention_mask");
  }
}

// Latents outlive a decoding that failed: `orrery decode` finishes the work from the file this writes.
at::Tensor decode_or_keep(const orrery::WorldModelPipeline& pipeline, const orrery::Generated& future, const fs::path& output) {
  try {
    return pipeline.decode(future, work());
  } catch (const std::exception&) {
    const fs::path kept = fs::path(output).concat(".latents.safetensors");
    const auto autoencoder = pipeline.autoencoder();
    orrery::save_safetensors(kept, {{"latent", autoencoder->normalization().undo(future.normalized.video)}},
                             {{"class", autoencoder->class_name()}, {"fps", std::to_string(future.fps)}});
    std::fprintf(stderr, "the latents are kept in %s; `orrery decode --tokens` finishes from there\n", kept.c_str());
    throw;
  }
}

void run(Options options) {
  require_writable(options.output);
  const Stopwatch whole;
  const auto pipeline = orrery::WorldModelPipeline::from_pretrained(options.model.path, options.model.load());
  const double load_seconds = whole.seconds();
  const orrery::GenerationDefaults defaults = pipeline.defaults();
  read_inputs(options, defaults);
  options.generate.work = work();

  const orrery::Generated future = pipeline.generate_latents(options.generate);
  check_interrupt();
  const Stopwatch decoding;
  const at::Tensor video = decode_or_keep(pipeline, future, options.output);
  const double decode_seconds = decoding.seconds();
  check_interrupt();
  if (options.output.extension() == ".safetensors") {
    // The reference's picture pipelines give their latents without a time axis.
    const at::Tensor latents = defaults.num_frames == 1 ? future.latents.squeeze(2) : future.latents;
    orrery::save_safetensors(options.output, {{"video", video}, {"latents", latents}},
                             {{"class", pipeline.class_name()}, {"fps", std::to_string(future.fps)}});
  } else {
    orrery::write_video(options.output, orrery::to_video(video, future.fps));
  }
  if (!options.json) return;
  const auto& t = future.timings;
  const nlohmann::json report = {
      {"model", options.model.path},
      {"class", pipeline.class_name()},
      {"frames", video.size(2)},
      {"height", video.size(3)},
      {"width", video.size(4)},
      {"stages",
       {{"load", load_seconds}, {"text", t.text}, {"encode", t.encode}, {"denoise", t.denoise}, {"decode", decode_seconds}}}};
  std::puts(report.dump().c_str());
}

}  // namespace

void add_generate(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("generate", "Imagine a future from a prompt, a picture or a video");
  auto& generate = options->generate;
  options->model.add_to(*command);
  options->model.add_loras_to(*command);
  command->add_option("-p,--prompt", generate.prompt, "What should happen");
  command->add_option("-n,--negative-prompt", generate.negative_prompt, "What should not");
  CLI::Option* image = command->add_option("-i,--image", options->image, "Picture to start from (or .safetensors with `image`)");
  command->add_option("--last-image", options->last_image, "Picture to arrive at (first-and-last-frame models)")->needs(image);
  command->add_option("--video", options->video, "Video to go on from (or .safetensors with `video`)")->excludes(image);
  command->add_option("--condition-frames", generate.condition_frames, "Go on from the last so many frames")
      ->check(CLI::PositiveNumber);
  command->add_option("--fit", options->fit, "How a picture of another shape is brought to size: stretch, crop or letterbox")
      ->transform(CLI::CheckedTransformer(kFits))->default_str("stretch");
  command->add_option("--num-frames", generate.num_frames, "Frames of the future, the given ones included")->check(CLI::PositiveNumber);
  command->add_option("-W,--width", generate.width, "Width in pixels")->check(CLI::PositiveNumber);
  command->add_option("-H,--height", generate.height, "Height in pixels")->check(CLI::PositiveNumber);
  command->add_option("--fps", generate.fps, "Frames a second")->check(CLI::PositiveNumber);
  command->add_option("--steps", generate.steps, "Denoising steps");
  command->add_option("--guidance-scale", generate.guidance_scale, "How strongly the prompt is followed; 1: no guidance");
  command->add_option("--flow-shift", generate.flow_shift, "Replaces the scheduler's shift")->check(CLI::PositiveNumber);
  command->add_option("-s,--seed", generate.seed, "Seed of the noise");
  command->add_option("--noise", options->noise, "Safetensors file with `noise`, in place of the random generator");
  command->add_option("--prompt-embeds", options->prompt_embeds,
                      "Safetensors file with `prompt_embeds` and `negative_prompt_embeds`, in place of the text encoder");
  command->add_flag("--json", options->json, "Print the seconds of each stage as JSON");
  command->add_option("-o,--output", options->output, "MP4, MKV, WebM, GIF, folder, %05d.png pattern, or .safetensors")->required();
  command->final_callback([=] { run(*options); });
}

}  // namespace program

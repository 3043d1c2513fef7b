// orrery generate: a prompt, a picture or a video to a future.
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "actions_file.h"
#include "future_output.h"
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
  fs::path image, last_image, video, actions, noise, prompt_embeds, output;
  orrery::ResizeMode fit = orrery::ResizeMode::kCrop;
  orrery::TokenWorldOptions tokens;
  std::vector<std::string> controls, control_masks;
  std::vector<double> control_weights;
  uint64_t max_memory = 0;
  int64_t preview_every = 0;
  std::string preview_decoder;
  bool resize = false, json = false;
};

const std::map<std::string, orrery::ResizeMode> kFits = {{"stretch", orrery::ResizeMode::kStretch},
                                                         {"crop", orrery::ResizeMode::kCrop},
                                                         {"letterbox", orrery::ResizeMode::kLetterbox}};

const std::map<std::string, orrery::Compat> kCompats = {{"diffusers", orrery::Compat::kDiffusers},
                                                        {"original", orrery::Compat::kOriginal}};
const std::map<std::string, orrery::GuidanceForm> kGuidanceForms = {{"from-prompt", orrery::GuidanceForm::kFromPrompt},
                                                                    {"from-negative", orrery::GuidanceForm::kFromNegative}};
const std::map<std::string, bool> kOnOff = {{"on", true}, {"off", false}};

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

// Says how a picture of another shape is made to fit.
void tell_fit(const fs::path& path, const orrery::ReadOptions& how) {
  const orrery::VideoReader reader(path);
  if (reader.height() * how.size.width == reader.width() * how.size.height) return;  // or any size is taken as it is
  const char* modes[] = {"stretched", "cropped at its edges", "letterboxed"};
  std::fprintf(stderr, "%s is %lldx%lld, the future %lldx%lld: it is %s (--fit crop, letterbox or stretch)\n", path.c_str(),
               static_cast<long long>(reader.width()), static_cast<long long>(reader.height()),
               static_cast<long long>(how.size.width), static_cast<long long>(how.size.height),
               modes[static_cast<int>(how.size.mode)]);
}

// How many frames at the beginning a model that goes on from `most` has no use for, which is told; 0: from all.
int64_t frames_too_many(const fs::path& path, int64_t count, int64_t most) {
  if (most == 0 || count <= most) return 0;
  std::fprintf(stderr, "%s has %lld frames: the last %lld are what this model goes on from\n", path.c_str(),
               static_cast<long long>(count), static_cast<long long>(most));
  return count - most;
}

// Frames [1,3,K,H,W] in [-1,1] of a picture or video file, or the tensor of that name of a .safetensors file as it is; no
// more than the last `most` frames, 0: all.
at::Tensor frames_of(const fs::path& path, const char* name, const orrery::ReadOptions& how, int64_t most = 0) {
  if (path.extension() != ".safetensors") {
    tell_fit(path, how);
    orrery::Video video = orrery::read_video(path, how);
    video.frames = video.frames.slice(0, frames_too_many(path, video.num_frames(), most));
    return orrery::to_input(video);
  }
  const at::Tensor frames = named(orrery::load_safetensors(path), name, path);
  if (frames.dim() == 4) return frames.unsqueeze(2);
  return frames.dim() == 5 ? frames.slice(2, frames_too_many(path, frames.size(2), most)) : frames;
}

// "edge=FILE" is a kind and its file, "FILE" a file alone.
std::pair<std::string, fs::path> kind_and_file(const std::string& text) {
  const size_t sign = text.find('=');
  if (sign == std::string::npos || fs::exists(text)) return {"", text};
  return {text.substr(0, sign), text.substr(sign + 1)};
}

void read_controls(Options& options, const orrery::ReadOptions& how) {
  const auto& weights = options.control_weights;
  if (weights.size() > 1 && weights.size() != options.controls.size())
    throw orrery::Error(orrery::ErrorKind::kArgument, {.place = "--control-weight",
                                                       .what = "is not given once, or once for each control",
                                                       .expected = std::to_string(options.controls.size()),
                                                       .got = std::to_string(weights.size())});
  auto& controls = options.generate.controls;
  for (const std::string& text : options.controls) {
    const auto [kind, file] = kind_and_file(text);
    const double weight = weights.empty() ? 1 : weights[std::min(controls.size(), weights.size() - 1)];
    controls.push_back({.kind = kind, .video = frames_of(file, "video", how), .mask = {}, .weight = weight});
  }
  for (const std::string& text : options.control_masks) {
    const auto named = kind_and_file(text);
    const auto found =
        std::find_if(controls.begin(), controls.end(), [&](const auto& each) { return each.kind == named.first; });
    if (found == controls.end())
      throw orrery::Error(orrery::ErrorKind::kArgument,
                          {.place = "--control-mask " + text, .what = "is for a control that is not given"});
    const at::Tensor mask = frames_of(named.second, "mask", how);
    // A picture's brightness, or a tensor as it is.
    found->mask = named.second.extension() == ".safetensors" ? mask : mask.mean(1, /*keepdim=*/true).mul(0.5).add(0.5);
  }
}

// The rows as a table, each checked against what the model takes.
at::Tensor table_of(const fs::path& path, const std::string& model) {
  const auto space = orrery::describe_action_space(orrery::describe_model(model, work()));
  if (!space)
    throw orrery::Error(
        orrery::ErrorKind::kArgument,
        {.place = "--actions", .what = "are nothing that this model can be steered by", .hint = "leave them out"});
  const auto rows = read_actions(path, *space);
  orrery::ActionSpace one = *space;
  one.rows_per_step = 1;
  std::vector<double> numbers;
  for (size_t i = 0; i < rows.size(); ++i) {
    one.check(rows[i], path.string() + ": row " + std::to_string(i) + ": action");
    numbers.insert(numbers.end(), rows[i].begin(), rows[i].end());
  }
  return at::tensor(numbers, at::kDouble).view({-1, space->width});
}

// --resize is for pictures and videos; a tensor is used as it is.
void check_size(const Options& options, const orrery::GenerationDefaults& defaults) {
  const at::Tensor& seen = options.generate.seen;
  if (seen.dim() != 5 || (seen.size(3) == defaults.height && seen.size(4) == defaults.width)) return;
  const auto size = [](int64_t width, int64_t height) { return std::to_string(width) + "x" + std::to_string(height); };
  throw orrery::Error(orrery::ErrorKind::kArgument,
                      {.place = (options.video.empty() ? options.image : options.video).string(),
                       .what = "has another size, and --resize does not change tensors",
                       .expected = size(defaults.width, defaults.height),
                       .got = size(seen.size(4), seen.size(3)),
                       .hint = "bring the tensor to that size, or give a picture or a video"});
}

void read_inputs(Options& options, const orrery::GenerationDefaults& defaults, const orrery::InputRules& rules) {
  orrery::GenerateOptions& generate = options.generate;
  orrery::ReadOptions how;
  // Where there is one size alone, a clip of another was hardly meant; elsewhere the future's size is a choice.
  if (!rules.fixed_size || options.resize)
    how.size = {.height = generate.height.value_or(defaults.height),
                .width = generate.width.value_or(defaults.width),
                .mode = options.fit};
  if (!options.image.empty()) generate.seen = frames_of(options.image, "image", how);
  if (!options.video.empty()) generate.seen = frames_of(options.video, "video", how, rules.most_seen_frames);
  if (options.resize && rules.fixed_size) check_size(options, defaults);
  if (!options.last_image.empty()) generate.last_image = frames_of(options.last_image, "image", how);
  // A picture encoder looks at the pictures as they came.
  const auto whole = [](const fs::path& path) {
    return path.empty() || path.extension() == ".safetensors" ? orrery::Video() : orrery::read_image(path);
  };
  generate.picture = whole(options.image);
  generate.last_picture = whole(options.last_image);
  read_controls(options, how);
  if (!options.actions.empty()) generate.actions = table_of(options.actions, options.model.path);
  if (!options.noise.empty()) {
    const orrery::TensorMap tensors = orrery::load_safetensors(options.noise);
    generate.noise = named(tensors, "noise", options.noise);
    generate.condition_noise = optional(tensors, "condition_noise");
  }
  if (!options.prompt_embeds.empty()) {
    const orrery::TensorMap tensors = orrery::load_safetensors(options.prompt_embeds);
    generate.prompt_embeds = named(tensors, "prompt_embeds", options.prompt_embeds);
    generate.negative_prompt_embeds = optional(tensors, "negative_prompt_embeds");
    generate.prompt_mask = optional(tensors, "prompt_attention_mask");
    generate.negative_prompt_mask = optional(tensors, "negative_prompt_attention_mask");
  }
}

void run(Options options) {
  require_writable(options.output);
  const Stopwatch whole;
  const auto pipeline = orrery::WorldModelPipeline::from_pretrained(
      options.model.path, options.model.load(), static_cast<int64_t>(options.max_memory), options.tokens);
  const double load_seconds = whole.seconds();
  orrery::GenerateOptions& generate = options.generate;
  if (options.model.exact && generate.step_cache) {
    std::fprintf(stderr, "--exact: every step runs in full, without --step-cache\n");
    generate.step_cache.reset();
  }
  const orrery::GenerationDefaults defaults = pipeline.defaults(generate.compat, generate.preset);
  read_inputs(options, defaults, pipeline.input_rules());
  generate.work = work();
  if (options.preview_every > 0)
    generate.on_step = Previews(options.preview_every, options.preview_decoder, options.output, pipeline);
  std::optional<orrery::Generated> undecoded;
  generate.on_latents = [&](const orrery::Generated& future) { undecoded = future; };

  FutureOutput output(options.output, generate.fps.value_or(defaults.fps));
  orrery::Generated future;
  try {
    future = pipeline.generate(generate, [&](const at::Tensor& frames) { output.write(frames); });
    check_interrupt();
  } catch (const std::exception&) {
    if (undecoded) keep_latents(options.output, *undecoded, *pipeline.autoencoder());
    throw;
  }
  output.finish(future, pipeline.class_name(), defaults.num_frames == 1);
  const double rate = static_cast<double>(future.new_tokens) / future.timings.denoise;
  if (future.new_tokens > 0)
    std::fprintf(stderr, "%lld tokens, %.1f tokens/s\n", static_cast<long long>(future.new_tokens), rate);
  if (!options.json) return;
  const auto& t = future.timings;
  nlohmann::json report = {
      {"model", options.model.path},
      {"class", pipeline.class_name()},
      {"frames", output.frames()},
      {"height", output.height()},
      {"width", output.width()},
      {"stages",
       {{"load", load_seconds}, {"text", t.text}, {"encode", t.encode}, {"denoise", t.denoise}, {"decode", t.decode}}}};
  if (future.new_tokens > 0) report["tokens_per_second"] = rate;
  if (generate.step_cache)
    report["step_cache"] = {{"threshold", *generate.step_cache}, {"passes", future.passes}, {"shortened", future.shortened}};
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
  CLI::Option* image =
      command->add_option("-i,--image", options->image, "Picture to start from (or .safetensors with `image`)");
  command->add_option("--last-image", options->last_image, "Picture to arrive at (first-and-last-frame models)")
      ->needs(image);
  command->add_option("--video", options->video, "Video to go on from (or .safetensors with `video`)")->excludes(image);
  const auto repeatable = [](CLI::Option* option) {
    return option->expected(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  };
  CLI::Option* control = repeatable(command->add_option(
      "--control", options->controls,
      "Video of edges, depth, … that steers the future (or .safetensors with `video`); several as KIND=FILE"));
  repeatable(
      command->add_option("--control-weight", options->control_weights, "How much it counts, once or for each control"))
      ->needs(control);
  repeatable(command->add_option("--control-mask", options->control_masks,
                                 "[KIND=]video, white where that control counts (or .safetensors with `mask`)"))
      ->needs(control);
  command->add_option(
      "--actions", options->actions,
      "What is done before each frame behind the first: .npy, .json (rows, numbers or names) or .safetensors "
      "with `actions` [T,A]");
  command->add_option("--condition-frames", generate.condition_frames, "Go on from the last so many frames")
      ->check(above_zero());
  command->add_option("--fit", options->fit, "How a picture of another shape is brought to size: stretch, crop or letterbox")
      ->transform(CLI::CheckedTransformer(kFits))
      ->default_str("crop");
  command->add_flag("--resize", options->resize,
                    "Bring a clip of another size to a model that has one size alone; other models are always given theirs");
  command->add_option("--num-frames", generate.num_frames, "Frames of the future, the given ones included")
      ->check(above_zero());
  command
      ->add_option("--window", generate.window_frames,
                   "Imagine so many frames at once; a longer future goes on window by window")
      ->check(above_zero());
  command->add_option("--overlap", generate.overlap_frames, "Frames of a window that the next goes on from")
      ->check(above_zero());
  command->add_option("-W,--width", generate.width, "Width in pixels")->check(above_zero());
  command->add_option("-H,--height", generate.height, "Height in pixels")->check(above_zero());
  command->add_option("--fps", generate.fps, "Frames a second")->check(above_zero());
  command->add_option("--steps", generate.steps, "Denoising steps");
  command
      ->add_option("--step-cache", generate.step_cache,
                   "Lossy: leave out blocks where the first one changes by at most this share from step to step (try 0.05)")
      ->check(not_negative());
  command->add_option("--guidance-scale", generate.guidance_scale, "How strongly the prompt is followed; 1: no guidance");
  command->add_option("--guidance-scale-2", generate.guidance_scale_2,
                      "The same of the network for low noise, where there are two");
  command
      ->add_option(
          "--guidance-form", generate.guidance_form,
          "How guidance mixes: from-prompt, c + g (c - u), or from-negative, u + g (c - u); else as the reference does")
      ->transform(CLI::CheckedTransformer(kGuidanceForms));
  command
      ->add_option("--fps-modulation", generate.fps_modulation,
                   "Tell the network the frame rate: on or off; else as the reference does")
      ->transform(CLI::CheckedTransformer(kOnOff));
  command->add_option("--compat", generate.compat, "Run it as diffusers does, or as the original repository")
      ->transform(CLI::CheckedTransformer(kCompats));
  command->add_option("--preset", generate.preset, "Numbers and sampler of a released model; an unknown name lists them");
  command->add_option("--flow-shift", generate.flow_shift, "Replaces the scheduler's shift")->check(above_zero());
  command->add_option("--temperature", generate.temperature, "Worlds of tokens: how freely they are drawn, above 0");
  command->add_option("--top-p", generate.top_p,
                      "Worlds of tokens: draw from the most likely that have this probability together");
  command->add_option("--top-k", generate.top_k, "Worlds of tokens: draw from so many of the most likely");
  command->add_flag("--greedy", generate.greedy, "Worlds of tokens: always the most likely");
  command->add_option("--tokenizer", options->tokens.video_tokenizer,
                      "Worlds of tokens: their video tokenizer, where it lies neither in the model's folder nor beside it");
  command->add_option("--diffusion-decoder", options->tokens.diffusion_decoder,
                      "Worlds of tokens: a diffusion network that sharpens the frames, in place of the tokenizer's decoder");
  command->add_option("-s,--seed", generate.seed, "Seed of the noise, or of the draws");
  command->add_option("--noise", options->noise, "Safetensors file with `noise`, in place of the random generator");
  command->add_option("--prompt-embeds", options->prompt_embeds,
                      "Safetensors file with `prompt_embeds` and `negative_prompt_embeds`, in place of the text encoder");
  command
      ->add_option("--preview", options->preview_every,
                   "Every so many steps, show the future as it stands beside the output")
      ->check(above_zero());
  command->add_option("--preview-decoder", options->preview_decoder,
                      "Tiny tokenizer of the same latents for previews; else a linear map");
  command
      ->add_option("--max-memory", options->max_memory,
                   "Bytes of the device, or with a unit (6GB): larger networks stream their blocks from disk")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  command->add_flag("--json", options->json, "Print the seconds of each stage as JSON");
  command->add_option("-o,--output", options->output, "MP4, MKV, WebM, GIF, folder, %05d.png pattern, or .safetensors")
      ->required();
  command->final_callback([=] { run(*options); });
}

}  // namespace program

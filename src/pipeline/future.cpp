#include "pipeline/future.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <sstream>
#include <vector>

#include "orrery/action_space.h"
#include "orrery/error.h"
#include "orrery/log.h"
#include "pipeline/decoding.h"
#include "pipeline/prompts.h"
#include "pipeline/stages.h"
#include "placement.h"
#include "sampling/noise.h"
#include "sampling/solver.h"
#include "vision/clip_image_processor.h"

namespace orrery::pipeline {
namespace {

Error no_step_cache(const std::string& place) {
  return Error(ErrorKind::kUnsupported,
               {.place = place + ": step cache",
                .what = "cannot be used: this network is not looked at through a chain of blocks that "
                        "may be left out, step after step",
                .hint = "leave it out"});
}

bool is_finite(const at::Tensor& tensor) {
  return std::isfinite(tensor.sum(at::kDouble).item<double>());
}

std::string text_of(at::IntArrayRef sizes) {
  std::ostringstream text;
  text << sizes;
  return text.str();
}

// Noise for known frames: what the caller gives; drawn, unless the caller gives the noise of the sample and none for them.
std::function<at::Tensor(int64_t)> condition_noise(const GenerateOptions& options, const std::vector<int64_t>& shape,
                                                   at::Device device) {
  if (const at::Tensor given = options.condition_noise; given.defined())
    return [given, shape](int64_t n) {
      if (given.dim() == 5 && n < given.size(0) && given.sizes().slice(1).equals(at::IntArrayRef(shape).slice(1)))
        return given.narrow(0, n, 1).to(at::kFloat);
      throw Error(ErrorKind::kArgument, {.place = "condition noise",
                                         .what = "has the wrong shape, or too few draws",
                                         .expected = "at least " + std::to_string(n + 1) + " draws of the latents' shape",
                                         .got = text_of(given.sizes())});
    };
  if (options.noise.defined()) return {};
  // Streams of their own, far from those that steps draw from.
  return [seed = options.seed, shape, device](int64_t n) {
    return sampling::latent_noise(shape, {.seed = seed, .step = (1u << 31) + static_cast<uint32_t>(n)}, device);
  };
}

// `count` frames of a clip [1,3,T,H,W] from `first` on; behind its end stands its last frame.
at::Tensor piece(const at::Tensor& clip, int64_t first, int64_t count) {
  const at::Tensor there = clip.slice(2, first, first + count).to(at::kFloat);
  const int64_t missing = count - there.size(2);
  if (missing == 0) return there;
  return at::cat({there, clip.narrow(2, clip.size(2) - 1, 1).to(at::kFloat).expand({-1, -1, missing, -1, -1})}, 2);
}

void check_controls(const GenerateOptions& options, const DiffusionRecipe& recipe, int64_t height, int64_t width) {
  if (recipe.takes_controls() == options.controls.empty())
    throw Error(ErrorKind::kArgument,
                {.place = "control",
                 .what = options.controls.empty() ? "is what this model is steered by, and there is none"
                                                  : "is nothing that this model can be steered by",
                 .hint = options.controls.empty() ? "give --control" : "leave it out"});
  for (const Control& control : options.controls) {
    if (control.video.dim() != 5 || control.video.size(2) < 1 || control.video.size(3) != height ||
        control.video.size(4) != width)
      throw Error(ErrorKind::kArgument,
                  {.place = "control",
                   .what = "has the wrong shape",
                   .expected = "[1, 3, T, " + std::to_string(height) + ", " + std::to_string(width) + "]",
                   .got = text_of(control.video.sizes())});
    const int64_t frames = options.controls.front().video.size(2);
    if (control.video.size(2) != frames)
      throw Error(ErrorKind::kArgument, {.place = "control '" + control.kind + "'",
                                         .what = "is of another length than the first",
                                         .expected = std::to_string(frames) + " frames",
                                         .got = std::to_string(control.video.size(2))});
    const at::Tensor& mask = control.mask;
    if (mask.defined() &&
        (mask.dim() != 5 || mask.size(1) != 1 || mask.size(2) != frames || !mask.isfinite().all().item<bool>()))
      throw Error(ErrorKind::kArgument, {.place = "control '" + control.kind + "': mask",
                                         .what = "does not lie over the control",
                                         .expected = "finite numbers [1, 1, " + std::to_string(frames) + ", H, W]",
                                         .got = text_of(mask.sizes())});
  }
}

// Whether every window has its rows, one for each frame behind its first.
void check_actions(const GenerateOptions& options, const DiffusionRecipe& recipe, int64_t num_frames, int64_t windows) {
  const ActionSpace* space = recipe.action_space();
  const at::Tensor& actions = options.actions;
  if ((space != nullptr) != actions.defined())
    throw Error(ErrorKind::kArgument, {.place = "actions",
                                       .what = space ? "are what this model is steered by, and there are none"
                                                     : "are nothing that this model can be steered by",
                                       .hint = space ? "give --actions" : "leave them out"});
  if (!space) return;
  if (actions.dim() != 2 || actions.size(1) != space->width)
    throw Error(ErrorKind::kArgument, {.place = "actions",
                                       .what = "have the wrong width",
                                       .expected = "[T, " + std::to_string(space->width) + "]",
                                       .got = text_of(actions.sizes())});
  const at::Tensor rows = actions.to(at::kDouble).contiguous();
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const double* row = rows.const_data_ptr<double>() + i * space->width;
    space->check({row, row + space->width}, "actions: row " + std::to_string(i));
  }
  const int64_t chunk = num_frames - 1, have = rows.size(0);
  if (have >= windows * chunk) return;
  const int64_t whole = have / chunk * chunk;
  throw Error(ErrorKind::kArgument,
              {.place = "actions",
               .what = "do not fill whole chunks of " + std::to_string(chunk) + ", one row for each frame behind the first",
               .expected = (whole > 0 ? std::to_string(whole) + " or " : "") + std::to_string(whole + chunk) + " rows",
               .got = std::to_string(have)});
}

// Guidance as asked for: its scale, its form, and whether that makes a difference. diffusers lets a scale up to 1 be none.
void set_guidance(const GenerateOptions& options, const models::Preset& preset, const DiffusionRecipe& recipe,
                  DiffusionInputs& inputs) {
  const double second = preset.numbers.guidance_scale_2;
  inputs.guidance_scale = options.guidance_scale.value_or(preset.numbers.guidance_scale);
  inputs.guidance_scale_2 =
      options.guidance_scale_2.value_or(second > 0 && !options.guidance_scale ? second : inputs.guidance_scale);
  for (const double scale : {inputs.guidance_scale, inputs.guidance_scale_2})
    if (!std::isfinite(scale))
      throw Error(ErrorKind::kArgument, {.place = "guidance scale", .what = "is no number", .got = std::to_string(scale)});
  inputs.guidance_form = options.guidance_form == GuidanceForm::kOwn ? recipe.guidance_form() : options.guidance_form;
  const double none = inputs.guidance_form == GuidanceForm::kFromPrompt ? 0 : 1;
  const auto counts = [&](double scale) { return preset.compat == Compat::kDiffusers ? scale > 1 : scale != none; };
  inputs.guided = counts(inputs.guidance_scale) || counts(inputs.guidance_scale_2);
}

// What the passes of this generation share where it may leave out blocks.
std::shared_ptr<StepCacheRun> step_cache(const GenerateOptions& options, const std::string& place,
                                         const DiffusionRecipe& recipe) {
  if (!options.step_cache) return nullptr;
  const double threshold = *options.step_cache;
  if (!std::isfinite(threshold) || threshold < 0)
    throw Error(ErrorKind::kArgument, {.place = place + ": step cache",
                                       .what = "has a threshold that is out of range",
                                       .expected = "a finite number, 0 or more",
                                       .got = std::to_string(threshold)});
  if (recipe.makes_pieces()) throw no_step_cache(place);
  auto run = std::make_shared<StepCacheRun>();
  run->threshold = threshold;
  return run;
}

}  // namespace

at::Tensor frames_to_go_on_from(const GenerateOptions& options, const DiffusionRecipe& recipe) {
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

Future::Future(const Parts& parts, const GenerateOptions& options, int64_t num_frames, int64_t windows,
               const at::Tensor& seen)
    : parts_(parts),
      options_(options),
      preset_(parts.preset(options.compat, options.preset)),
      num_frames_(num_frames),
      windows_(windows) {
  const GenerationDefaults& defaults = preset_.numbers;
  const DiffusionRecipe& recipe = *parts_.recipe;
  const CodecSpec& codec = parts_.autoencoder->spec();
  const int64_t height = options.height.value_or(seen.defined() ? seen.size(3) : defaults.height);
  const int64_t width = options.width.value_or(seen.defined() ? seen.size(4) : defaults.width);
  recipe.check(num_frames, height, width, seen.defined() ? seen.size(2) : 0);
  check_controls(options, recipe, height, width);
  check_actions(options, recipe, num_frames, windows);

  inputs_.device = parts_.load.device;
  inputs_.original = preset_.compat == Compat::kOriginal;
  if (!recipe.makes_pieces()) make_schedule();

  inputs_.shape = {1, recipe.latent_channels(), codec.latent_frames(num_frames), height / codec.spatial_stride,
                   width / codec.spatial_stride};
  set_guidance(options, preset_, recipe, inputs_);
  inputs_.fps_modulation = options.fps_modulation;
  inputs_.step_cache = step_cache(options, parts.class_name, recipe);
  inputs_.conditions.fps = options.fps.value_or(defaults.fps);
  inputs_.condition_noise = condition_noise(options, inputs_.shape, inputs_.device);
  inputs_.conditions.text = options.prompt_embeds;
  inputs_.conditions.text_mask = options.prompt_mask;
  inputs_.negative_text = options.negative_prompt_embeds;
  inputs_.negative_text_mask = options.negative_prompt_mask;
  embed_prompts();
}

void Future::make_schedule() {
  scheduler_ =
      *preset_.scheduler ? Config::parse(preset_.scheduler, std::string("preset ") + preset_.name) : parts_.scheduler;
  inputs_.scheduler = scheduler_;
  sampling::ScheduleOptions rows{.steps = options_.steps.value_or(preset_.numbers.steps),
                                 .flow_shift = options_.flow_shift,
                                 .unit_ramp = parts_.recipe->unit_ramp() && !inputs_.original};
  if (!rows.flow_shift && preset_.numbers.flow_shift > 0) rows.flow_shift = preset_.numbers.flow_shift;
  schedule_ = sampling::make_schedule(scheduler_, rows);
  if (parts_.recipe->repeats_last_sigma() && !inputs_.original) schedule_.rows.back().next = schedule_.rows.back().sigma;
}

// Embeds the prompts that are given as text.
void Future::embed_prompts() {
  at::Tensor &text = inputs_.conditions.text, &negative = inputs_.negative_text;
  const std::string prompt = text.defined() ? "" : allowed_prompt(options_.guardrails, options_.prompt);
  const std::string negative_prompt = options_.negative_prompt.value_or("");
  const auto no_prompt = [&] { return placed(parts_.recipe->no_prompt(), inputs_.device); };
  if (!text.defined() && prompt.empty()) text = no_prompt();
  if (!negative.defined() && negative_prompt.empty()) negative = no_prompt();
  const bool embed = !text.defined(), embed_negative = inputs_.guided && !negative.defined();
  std::vector<std::string> prompts;
  if (embed) prompts.push_back(prompt);
  if (embed_negative) prompts.push_back(negative_prompt);
  if (prompts.empty()) return;
  const auto start = std::chrono::steady_clock::now();
  const std::vector<at::Tensor> embedded = pipeline::embed_prompts(parts_, prompts, options_.work);
  if (embed) text = embedded.front();
  if (embed_negative) negative = embedded.back();
  text_seconds_ = seconds_since(start);
}

// The first picture, and the last where it is given: [1 or 2,L,D]. The encoder lives only as long as this takes.
at::Tensor Future::embed_pictures(const at::Tensor& seen) const {
  if (!parts_.image_encoder) return {};
  std::vector<Video> pictures = {options_.picture.frames.defined() ? options_.picture : to_video(seen.narrow(2, 0, 1), 1)};
  if (options_.last_image.defined())
    pictures.push_back(options_.last_picture.frames.defined() ? options_.last_picture : to_video(options_.last_image, 1));
  std::vector<at::Tensor> pixels;
  for (const Video& picture : pictures) pixels.push_back(vision::clip_pixels(picture, parts_.image_processor));
  return parts_.recipe->embed_pictures(*load_component(*parts_.image_encoder, parts_.load),
                                       at::cat(pixels).to(inputs_.device));
}

void Future::encode(const at::Tensor& seen, int64_t first, Generated& out) {
  if (!seen.defined() && options_.controls.empty()) return;
  const Autoencoder& autoencoder = *parts_.autoencoder;
  const auto encoded = [&](const at::Tensor& clip) {
    return autoencoder.normalization().apply(autoencoder.encode(clip).latent);
  };
  ProgressMeter meter(options_.work, "encode", 1);
  if (seen.defined()) {
    at::Tensor clip = parts_.recipe->conditioning_clip(seen.to(at::kFloat), num_frames_);
    if (options_.last_image.defined()) {
      clip = clip.clone();
      clip.narrow(2, clip.size(2) - 1, 1).copy_(options_.last_image);
    }
    inputs_.history = encoded(clip);
    inputs_.history_frames = std::min(seen.size(2), num_frames_);
    inputs_.last_frame_known = options_.last_image.defined();
    if (window_ == 0) inputs_.conditions.image = embed_pictures(seen);  // a long future stays with its first picture
  }
  if (options_.actions.defined())
    inputs_.conditions.actions =
        parts_.recipe->normalised_actions(options_.actions.narrow(0, first, num_frames_ - 1)).to(inputs_.device);
  inputs_.conditions.controls = options_.controls;
  for (Control& control : inputs_.conditions.controls) {
    control.video = encoded(piece(control.video, first, num_frames_));
    if (control.mask.defined()) control.mask = piece(control.mask, first, num_frames_);
  }
  meter.tell(1);
  out.timings.encode += meter.seconds();
}

// Unit noise of this window. The caller's, [windows,C,t,h,w], or that of the seed; no two windows have the same.
at::Tensor Future::first_sample() const {
  const auto& shape = inputs_.shape;
  if (!options_.noise.defined())
    return sampling::latent_noise(shape, {.seed = options_.seed, .frame = static_cast<uint32_t>(window_ * shape[2])},
                                  inputs_.device);
  std::vector<int64_t> expected = shape;
  expected[0] = windows_;
  if (options_.noise.sizes() == at::IntArrayRef(expected)) return options_.noise.narrow(0, window_, 1).to(at::kFloat);
  throw Error(ErrorKind::kArgument, {.place = "noise",
                                     .what = "has the wrong shape",
                                     .expected = text_of(expected),
                                     .got = text_of(options_.noise.sizes())});
}

// Draws for a sampler that adds noise: the caller's, [K,C,t,h,w], or those of the seed.
at::Tensor Future::draw(int64_t k) const {
  if (!options_.noise.defined())
    return sampling::latent_noise(inputs_.shape, {.seed = options_.seed, .step = static_cast<uint32_t>(k)}, inputs_.device);
  const at::Tensor& noise = options_.noise;
  if (noise.dim() == 5 && k < noise.size(0) && noise.sizes().slice(1).equals(at::IntArrayRef(inputs_.shape).slice(1)))
    return noise.narrow(0, k, 1).to(at::kFloat);
  throw Error(ErrorKind::kArgument, {.place = "noise",
                                     .what = "has the wrong shape, or holds too few draws for this sampler",
                                     .expected = "at least " + std::to_string(k + 1) + " draws of the latents' shape",
                                     .got = text_of(noise.sizes())});
}

void Future::imagine_pieces(Generated& out) {
  ProgressMeter meter(options_.work, "denoise", 1);
  const auto tell = [&](int64_t done, int64_t of) {
    meter.expect(of);
    meter.tell(done);
  };
  out.latents = parts_.recipe->make_pieces(
      inputs_, [&](int64_t k) { return draw(k); }, tell);
  if (!is_finite(out.latents))
    throw Error(ErrorKind::kWeights, {.place = "latents",
                                      .what = "are not finite (NaN or infinity)",
                                      .hint = "the checkpoint is damaged, or overflows in this --dtype"});
  out.timings.denoise += meter.seconds();
}

void Future::deliver(Generated& out) {
  out.fps = inputs_.conditions.fps;
  out.normalized = {.video = parts_.recipe->to_codec(out.latents), .fps = out.fps};
  out.windows.push_back(out.normalized);
  ++window_;
}

void Future::imagine(const at::Tensor& seen, int64_t first, Generated& out) {
  if (window_ == 0) out.timings.text += text_seconds_;
  encode(seen, first, out);
  if (parts_.recipe->makes_pieces()) {
    imagine_pieces(out);
    return deliver(out);
  }
  at::Tensor sample = first_sample() * parts_.recipe->noise_scale();
  const auto solver = sampling::make_solver(
      scheduler_, schedule_, {.seed = options_.seed, .frame = static_cast<uint32_t>(window_ * inputs_.shape[2])});

  const int64_t steps = schedule_.steps();
  ProgressMeter meter(options_.work, "denoise", steps * windows_, steps * window_);
  if (inputs_.step_cache) inputs_.step_cache->window = window_;
  if (run_)
    run_->next_window(inputs_);
  else
    run_ = parts_.recipe->begin(inputs_);
  for (int64_t i = 0; i < steps; ++i) {
    const NoiseLevel level{schedule_.rows[i].sigma, schedule_.rows[i].time};
    sample = run_->compose(sample, level);
    const at::Tensor velocity = run_->velocity(sample, level), before = sample;
    if (inputs_.step_cache && inputs_.step_cache->passes == 0) throw no_step_cache(parts_.class_name);
    sample = solver->step(i, sample, velocity);
    if (!is_finite(sample))
      throw Error(ErrorKind::kWeights, {.place = "step " + std::to_string(i + 1) + " of " + std::to_string(steps),
                                        .what = "the latents are not finite (NaN or infinity)",
                                        .hint = "the checkpoint is damaged, or overflows in this --dtype"});
    if (options_.on_step) {
      const at::Tensor clean = run_->finish(at::sub(before, velocity, level.sigma));
      options_.on_step({.step = i,
                        .steps = steps,
                        .window = window_,
                        .windows = windows_,
                        .sample = sample.cpu(),
                        .predicted = {.video = parts_.recipe->to_codec(clean).cpu(), .fps = inputs_.conditions.fps}});
    }
    meter.tell(steps * window_ + i + 1);
  }
  out.latents = run_->finish(sample);
  if (inputs_.step_cache) {
    out.passes = inputs_.step_cache->passes;
    out.shortened = inputs_.step_cache->shortened;
    log(LogLevel::kInfo, "step cache: " + std::to_string(out.shortened) + " of " + std::to_string(out.passes) +
                             " looks of the network left out all blocks but the first");
  }
  out.timings.denoise += meter.seconds();
  deliver(out);
}

}  // namespace orrery::pipeline

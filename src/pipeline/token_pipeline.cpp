#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "models/registry.h"
#include "orrery/error.h"
#include "orrery/frame_predictor.h"
#include "orrery/log.h"
#include "orrery/text.h"
#include "orrery/token_dynamics.h"
#include "pipeline/decoding.h"
#include "pipeline/generator.h"
#include "pipeline/stages.h"
#include "pipeline/token_parts.h"
#include "pipeline/token_sharpener.h"
#include "placement.h"

namespace orrery::pipeline {
namespace {

[[noreturn]] void refuse(const std::string& place, const std::string& what, const std::string& expected = {},
                         const std::string& got = {}, const std::string& hint = {}) {
  throw Error(ErrorKind::kArgument, {.place = place, .what = what, .expected = expected, .got = got, .hint = hint});
}

std::string size_text(int64_t height, int64_t width) {
  return std::to_string(width) + "x" + std::to_string(height);
}

class TokenPipeline final : public Generator {
 public:
  TokenPipeline(const ModelDescription& model, const LoadOptions& options, const TokenWorldOptions& tokens);

  GenerationDefaults defaults(Compat compat, const std::string& preset) const override;
  InputRules input_rules() const override;
  Generated generate_latents(const GenerateOptions& options) const override;
  Generated generate(const GenerateOptions& options, const FrameSink& sink) const override;

 private:
  int64_t pixel_height() const { return rules_.grid[1] * autoencoder_->spec().spatial_stride; }
  int64_t pixel_width() const { return rules_.grid[2] * autoencoder_->spec().spatial_stride; }
  void check_options(const GenerateOptions& options) const;
  void check_seen(const GenerateOptions& options) const;
  int64_t known_latents(const GenerateOptions& options) const;
  int64_t wanted_latents(const GenerateOptions& options, int64_t known) const;
  at::Tensor embedded_text(const GenerateOptions& options) const;
  Generated draw(const GenerateOptions& options, at::Tensor& text) const;
  at::Tensor token_by_token(const at::Tensor& known, int64_t frames, const GenerateOptions& options, at::Tensor& text,
                            Generated& out) const;
  at::Tensor frame_by_frame(const at::Tensor& known, int64_t frames, const GenerateOptions& options, Generated& out) const;

  LoadOptions load_;
  std::shared_ptr<const TokenPredictor> tokens_;  // this one
  std::shared_ptr<const FramePredictor> frames_;  // or this one
  TokenVideoRules rules_;
  TextParts text_;                                   // loaded when a prompt comes
  std::unique_ptr<const TokenSharpener> sharpener_;  // may be null
};

TokenPipeline::TokenPipeline(const ModelDescription& model, const LoadOptions& options, const TokenWorldOptions& tokens)
    : Generator(model.class_name), load_(options.as_stored()) {
  const ComponentDescription& network = *part_with_role(model, "dynamics");
  if (class_name_.empty()) class_name_ = network.class_name;
  if (!options.loras.empty())
    refuse(options.loras.front().path.string(), "is a LoRA, and " + network.class_name + " takes none", {}, {},
           "leave it out");
  const std::shared_ptr<const Component> loaded = load_part(network, options);
  tokens_ = std::dynamic_pointer_cast<const TokenPredictor>(loaded);
  frames_ = std::dynamic_pointer_cast<const FramePredictor>(loaded);
  if (tokens_ || frames_) rules_ = tokens_ ? tokens_->video_rules() : frames_->video_rules();
  if (rules_.grid.size() != 3)
    throw Error(ErrorKind::kUnsupported,
                {.place = model.path.string(), .what = "cannot make videos by itself: it needs the rest of its world"});

  const ComponentDescription codec = find_video_tokenizer(model, rules_, tokens.video_tokenizer, options.work);
  autoencoder_ = std::dynamic_pointer_cast<const Autoencoder>(load_part(codec, load_));
  const int64_t wanted = tokens_ ? tokens_->vocabulary() : frames_->vocabulary();
  if (const CodecSpec& spec = autoencoder_->spec(); spec.vocabulary != wanted)
    throw Error(ErrorKind::kConfig, {.place = codec.path.string() + " (" + codec.class_name + ")",
                                     .what = "is not the tokenizer that this network was trained with",
                                     .expected = "a vocabulary of " + std::to_string(wanted),
                                     .got = spec.discrete() ? std::to_string(spec.vocabulary) : "continuous latents"});
  if (rules_.text_tokens > 0) text_ = find_text_parts(model, rules_, options.work);
  if (!tokens.diffusion_decoder.empty())
    sharpener_ = std::make_unique<const TokenSharpener>(tokens.diffusion_decoder, load_);
}

GenerationDefaults TokenPipeline::defaults(Compat, const std::string&) const {
  return {.num_frames = autoencoder_->spec().pixel_frames(rules_.grid[0]),
          .height = pixel_height(),
          .width = pixel_width(),
          .fps = rules_.fps};
}

InputRules TokenPipeline::input_rules() const {
  return {.fixed_size = true, .most_seen_frames = autoencoder_->spec().pixel_frames(rules_.known_latents.back())};
}

void TokenPipeline::check_options(const GenerateOptions& options) const {
  const std::string why =
      frames_ ? "this world guesses all tokens of a frame together" : "this world draws token after token";
  const auto unusable = [&](bool given, const char* place) {
    if (given) refuse(place, "cannot be used: " + why, {}, {}, "leave it out");
  };
  unusable(options.guidance_scale || options.guidance_scale_2 || options.guidance_form != GuidanceForm::kOwn, "guidance");
  unusable(options.negative_prompt || options.negative_prompt_embeds.defined(), "negative prompt");
  unusable(options.flow_shift.has_value(), "flow shift");
  unusable(options.fps_modulation.has_value(), "frame-rate modulation");
  unusable(options.compat == Compat::kDiffusers || !options.preset.empty(), "another way to run it, or a preset");
  unusable(options.window_frames || options.overlap_frames, "windows");
  unusable(!options.controls.empty(), "control");
  unusable(options.actions.defined(), "actions");
  unusable(options.last_image.defined(), "last image");
  unusable(options.condition_noise.defined() || (options.noise.defined() && tokens_), "noise");
  unusable(static_cast<bool>(options.on_step), "a preview of each step");
  unusable(options.steps && tokens_, "steps");
  unusable(options.step_cache.has_value(), "step cache");
  unusable((options.top_p || options.top_k) && frames_, "top-p or top-k");
  if (rules_.text_tokens == 0 && (!options.prompt.empty() || options.prompt_embeds.defined()))
    refuse("prompt", "cannot be used: this network goes on from frames alone", {}, {}, "leave it out");
}

void TokenPipeline::check_seen(const GenerateOptions& options) const {
  if (!options.seen.defined())
    refuse("picture", "is missing", "a picture or a video to go on from", {}, "give -i or --video");
  const at::Tensor& seen = options.seen;
  if (seen.dim() != 5 || seen.size(0) != 1 || seen.size(1) != 3 || seen.size(2) < 1)
    refuse("frames to go on from", "have the wrong shape", "[1, 3, T, H, W]");
  const std::string wanted = size_text(pixel_height(), pixel_width());
  if (seen.size(3) != pixel_height() || seen.size(4) != pixel_width())
    refuse("size of the frames", "is not the one that this model has", wanted, size_text(seen.size(3), seen.size(4)),
           "--resize brings them to it");
  const int64_t height = options.height.value_or(pixel_height()), width = options.width.value_or(pixel_width());
  if (height != pixel_height() || width != pixel_width())
    refuse("size of the future", "cannot be chosen", wanted, size_text(height, width));
}

// The most that can be used of what is there, unless the caller says how much.
int64_t TokenPipeline::known_latents(const GenerateOptions& options) const {
  const int64_t there = options.seen.size(2);
  std::string usable;
  int64_t chosen = 0;
  bool fits = false;
  for (const int64_t latents : rules_.known_latents) {
    if (latents >= rules_.grid[0]) break;
    const int64_t frames = autoencoder_->spec().pixel_frames(latents);
    usable += (usable.empty() ? "" : ", ") + std::to_string(frames);
    if (options.condition_frames.value_or(frames) != frames) continue;
    if (!options.condition_frames && rules_.usual_known > 0 && latents > rules_.usual_known) continue;
    fits = true;
    if (frames <= there) chosen = latents;
  }
  if (chosen > 0) return chosen;
  if (fits)
    refuse("condition frames", "are not there",
           options.condition_frames ? std::to_string(*options.condition_frames) : usable, std::to_string(there));
  refuse("condition frames", "are not as many as the model can go on from", "one of " + usable,
         std::to_string(options.condition_frames.value_or(there)),
         "a whole clip, the future included, has " + std::to_string(autoencoder_->spec().pixel_frames(rules_.grid[0])) +
             " frames");
}

int64_t TokenPipeline::wanted_latents(const GenerateOptions& options, int64_t known) const {
  const CodecSpec& codec = autoencoder_->spec();
  if (!options.num_frames) return rules_.grid[0];
  const int64_t most = codec.pixel_frames(rules_.grid[0]);
  if (*options.num_frames > most)
    refuse("number of frames", "does not fit into the model's sequence", "at most " + std::to_string(most),
           std::to_string(*options.num_frames));
  const int64_t latents = codec.latent_frames(*options.num_frames);
  if (latents <= known)
    refuse("number of frames", "leaves nothing to imagine",
           "more than the " + std::to_string(codec.pixel_frames(known)) + " that are seen",
           std::to_string(*options.num_frames));
  return latents;
}

// Zero from the last word on and never masked: the networks were trained to look at the padding too.
at::Tensor TokenPipeline::embedded_text(const GenerateOptions& options) const {
  if (rules_.text_tokens == 0) return {};
  if (options.prompt_embeds.defined()) return options.prompt_embeds.to(at::kFloat);
  if (options.prompt.empty())
    refuse("prompt", "is missing", "what should happen, in words", {}, "give -p or --prompt-embeds");
  const std::string prompt = allowed_prompt(options.guardrails, options.prompt);
  if (!text_.encoder || !text_.tokenizer)
    refuse("prompt", "cannot be embedded: the checkpoint has no text encoder and tokenizer", {}, {}, "give --prompt-embeds");
  ProgressMeter meter(options.work, "text", 1);
  const auto tokenizer = TextTokenizer::open(text_.tokenizer->path);
  const auto encoder = load_component(*text_.encoder, load_);
  int64_t cut = 0;
  const at::Tensor text = embed_masked(*tokenizer, *encoder, prompt, rules_.text_tokens, cut);
  if (cut > 0) log(LogLevel::kWarning, "the prompt is too long: its last " + std::to_string(cut) + " tokens were cut off");
  meter.tell(1);
  return text;
}

// known int64 [1,t,h,w] → [1,frames,h,w]; `text` becomes the embedding that they follow.
at::Tensor TokenPipeline::token_by_token(const at::Tensor& known, int64_t frames, const GenerateOptions& options,
                                         at::Tensor& text, Generated& out) const {
  const TokenSampling sampling = {.temperature = options.temperature.value_or(rules_.temperature),
                                  .top_p = options.top_p.value_or(options.top_k ? 1 : rules_.top_p),
                                  .top_k = options.top_k.value_or(0),
                                  .greedy = options.greedy,
                                  .seed = options.seed};
  sampling.check();
  const auto begun = std::chrono::steady_clock::now();
  text = embedded_text(options);
  out.timings.text = seconds_since(begun);

  const auto start = std::chrono::steady_clock::now();
  const TokenDynamics dynamics(tokens_);
  const bool begins = tokens_->begin_token() >= 0;
  const at::Tensor prompt =
      begins ? at::constant_pad_nd(known.flatten(1), {1, 0}, tokens_->begin_token()) : known.flatten(1);
  TokenState state = dynamics.begin(prompt, {.text = text}, options.work);
  dynamics.advance(state, out.new_tokens, sampling, options.work);
  out.timings.denoise = seconds_since(start);
  return state.tokens.slice(1, begins ? 1 : 0).view({1, frames, known.size(2), known.size(3)}).clone();
}

at::Tensor TokenPipeline::frame_by_frame(const at::Tensor& known, int64_t frames, const GenerateOptions& options,
                                         Generated& out) const {
  FrameSampling sampling = {.steps = options.steps.value_or(rules_.steps),
                            .temperature = options.temperature.value_or(rules_.temperature),
                            .greedy = options.greedy,
                            .seed = options.seed};
  const int64_t cells = known.size(2) * known.size(3), fresh = frames - known.size(1);
  const std::vector<int64_t> order = {fresh, sampling.steps - 1, cells};
  if (options.noise.defined() && options.noise.sizes() != at::IntArrayRef(order))
    refuse("noise", "has the wrong shape", c10::str(at::IntArrayRef(order)), c10::str(options.noise.sizes()));
  const auto start = std::chrono::steady_clock::now();
  const auto context = frames_->prepare(1);
  frames_->observe(frames_->from_codec(known), *context);
  std::vector<at::Tensor> parts = {known};
  ProgressMeter meter(options.work, "tokens", fresh * cells);
  for (int64_t i = 0; i < fresh; ++i) {
    if (options.noise.defined()) sampling.settling_order = options.noise[i];
    parts.push_back(frames_->to_codec(frames_->imagine(sampling, *context)));
    meter.tell((i + 1) * cells);
  }
  out.timings.denoise = seconds_since(start);
  return at::cat(parts, 1);
}

Generated TokenPipeline::draw(const GenerateOptions& given, at::Tensor& text) const {
  check_options(given);
  check_seen(given);
  const GenerateOptions options = placed(given, load_.device);
  const CodecSpec& codec = autoencoder_->spec();
  const int64_t known = known_latents(options), frames = wanted_latents(options, known), seen = codec.pixel_frames(known);
  Generated out;
  out.fps = options.fps.value_or(rules_.fps);
  out.num_frames = codec.pixel_frames(frames);

  // The originals repeat the last frame up to a whole clip and cut the tokens of that off again; their tokenizers are
  // causal, so those tokens need not be made at all.
  ProgressMeter encoding(options.work, "encode", 1);
  const at::Tensor clip = options.seen.narrow(2, options.seen.size(2) - seen, seen).to(at::kFloat);
  const at::Tensor tokens = autoencoder_->encode(clip).indices.to(at::kLong);  // [1,known,h,w]
  encoding.tell(1);
  out.timings.encode = encoding.seconds();

  out.new_tokens = (frames - known) * rules_.grid[1] * rules_.grid[2];
  out.latents = tokens_ ? token_by_token(tokens, frames, options, text, out) : frame_by_frame(tokens, frames, options, out);
  out.normalized = {.video = out.latents, .fps = out.fps};
  out.windows = {out.normalized};
  return out;
}

Generated TokenPipeline::generate_latents(const GenerateOptions& options) const {
  at::Tensor text;
  return placed(draw(options, text), at::kCPU);
}

Generated TokenPipeline::generate(const GenerateOptions& options, const FrameSink& sink) const {
  at::Tensor text;
  Generated out = draw(options, text);
  if (options.on_latents) options.on_latents(placed(out, at::kCPU));
  const auto start = std::chrono::steady_clock::now();
  FrameStream stream(sink, options.guardrails, /*overlap=*/0, out.num_frames);
  stream.begin_window();
  if (sharpener_)
    stream.write(sharpener_->sharpen({.tokens = out.latents,
                                      .frames = out.num_frames,
                                      .height = pixel_height(),
                                      .width = pixel_width(),
                                      .text = text,
                                      .seed = options.seed},
                                     options.work));
  else
    decode_window(
        *autoencoder_, out.latents, [&](const at::Tensor& frames) { stream.write(frames); }, options.work);
  out.timings.decode = seconds_since(start);
  return placed(std::move(out), at::kCPU);
}

}  // namespace

bool is_of_tokens(const ModelDescription& model) {
  for (const models::WorldEntry& world : models::world_entries())
    if (world.class_name == model.class_name) return false;  // driven step by step
  return part_with_role(model, "dynamics") != nullptr;
}

std::unique_ptr<const Generator> load_tokens(const ModelDescription& model, const LoadOptions& options,
                                             const TokenWorldOptions& tokens) {
  return std::make_unique<const TokenPipeline>(model, options, tokens);
}

}  // namespace orrery::pipeline

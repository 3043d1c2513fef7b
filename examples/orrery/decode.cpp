// orrery decode: tokens back to a video.
#include <ATen/ops/cat.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "clip.h"
#include "orrery/media.h"
#include "orrery/weights.h"
#include "program.h"

namespace program {
namespace {

struct Options {
  ModelOptions model;
  CodingOptions coding;
  std::filesystem::path tokens, output;
};

void run(const Options& options) {
  require_writable(options.output);
  const Tokens tokens = Tokens::load(options.tokens);
  const auto tokenizer = orrery::Tokenizer::from_pretrained(options.model.path, options.model.load());
  const orrery::CodeOptions coding = options.coding.options();
  // Where shapes agree other classes may be meant: a tiny decoder of the same latents, a diffusers folder of the same weights.
  if (!tokens.class_name.empty() && tokens.class_name != tokenizer.class_name())
    std::fprintf(stderr, "%s holds tokens of %s: %s decodes them, which is right only where it knows the same latents\n",
                 options.tokens.c_str(), tokens.class_name.c_str(), tokenizer.class_name().c_str());

  if (options.output.extension() == ".safetensors") {  // the network's own numbers, before any rounding
    const at::Tensor& given = tokens.latents.video;
    const at::Tensor latent = given.is_floating_point() ? given : tokenizer.autoencoder().codes_of(given);
    std::vector<at::Tensor> parts = {tokenizer.autoencoder().decode(latent, options.coding.chunk)};
    for (const at::Tensor& window : tokens.later)
      parts.push_back(tokenizer.autoencoder().decode(window, options.coding.chunk).slice(2, tokens.overlap));
    at::Tensor sample = at::cat(parts, 2);
    if (!tokens.later.empty() && tokens.frames > 0) sample = sample.slice(2, 0, tokens.frames);
    check_interrupt();
    return orrery::save_safetensors(options.output, {{"video", sample}});
  }

  // Frames are written as they come, so memory does not grow with the clip.
  orrery::VideoWriter writer(options.output, {.fps = tokens.latents.fps});
  int64_t left = tokens.frames > 0 ? tokens.frames : INT64_MAX;
  const auto decode = [&](const orrery::Latents& latents, int64_t skip) {
    tokenizer.decode(
        latents,
        [&](const at::Tensor& frames) {
          const int64_t dropped = std::min(skip, frames.size(0)), count = std::min(left, frames.size(0) - dropped);
          skip -= dropped;
          if (count > 0) writer.write(cropped({frames.slice(0, dropped), 0}, count, tokens.height, tokens.width).frames);
          left -= std::max<int64_t>(count, 0);
        },
        coding);
  };
  decode(tokens.latents, 0);
  for (const at::Tensor& window : tokens.later) decode({.video = window, .fps = tokens.latents.fps}, tokens.overlap);
  check_interrupt();
  writer.finish();
}

}  // namespace

void add_decode(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("decode", "Turn tokens back into a video");
  options->model.add_to(*command);
  options->coding.add_to(*command, false);
  command->add_option("--tokens", options->tokens, "Safetensors file with `latent` or `indices`")->required();
  command
      ->add_option("-o,--output", options->output,
                   "Video (.mp4, .mkv, .webm, .gif), picture, folder or %05d.png pattern, or .safetensors with `video`")
      ->required();
  command->final_callback([=] { run(*options); });
}

}  // namespace program

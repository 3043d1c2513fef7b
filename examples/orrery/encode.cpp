// orrery encode: a video or picture to tokens.
#include <memory>

#include "clip.h"
#include "program.h"

namespace program {
namespace {

struct Options {
  ModelOptions model;
  ClipOptions clip;
  CodingOptions coding;
  std::filesystem::path output;
};

void run(const Options& options) {
  require_writable_file(options.output);
  const orrery::Video video = options.clip.read();
  const auto tokenizer = orrery::Tokenizer::from_pretrained(options.model.path, options.model.load());
  const orrery::CodeOptions coding = options.coding.options();
  const Tokens tokens{.latents = tokenizer.encode(video, coding),
                      .class_name = tokenizer.class_name(),
                      .frames = video.num_frames(),
                      .height = video.height(),
                      .width = video.width()};
  check_interrupt();
  tokens.save(options.output);
}

}  // namespace

void add_encode(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("encode", "Turn a video or a picture into tokens");
  options->model.add_to(*command);
  options->clip.add_to(*command);
  options->coding.add_to(*command, true);
  command->add_option("-o,--output", options->output, "Safetensors file for the tokens: `latent` or `indices`")->required();
  command->final_callback([=] { run(*options); });
}

}  // namespace program

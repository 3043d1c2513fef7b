// orrery reconstruct: a video through a tokenizer and back, and what that cost it.
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "clip.h"
#include "orrery/media.h"
#include "orrery/metrics.h"
#include "program.h"

namespace program {
namespace {

struct Options {
  ModelOptions model;
  ClipOptions clip;
  CodingOptions coding;
  std::filesystem::path output;
  bool side_by_side = false, json = false;
};

// How many times smaller the tokens are than the clip's 8-bit RGB, with 16 bits for a continuous latent's numbers.
double compression(const orrery::Video& video, const at::Tensor& tokens, int64_t vocabulary) {
  const double bits = vocabulary > 0 ? std::log2(static_cast<double>(vocabulary)) : 16;
  return static_cast<double>(video.frames.numel()) * 8 / (static_cast<double>(tokens.numel()) * bits);
}

void run(const Options& options) {
  require_writable(options.output);
  const orrery::Video video = options.clip.read();
  orrery::VideoWriter writer(options.output, {.fps = video.fps});  // what it refuses is refused before the work
  const auto tokenizer = orrery::Tokenizer::from_pretrained(options.model.path, options.model.load());
  const orrery::CodeOptions coding = options.coding.options();

  const Stopwatch encoding;
  const orrery::Latents latents = tokenizer.encode(video, coding);
  const double encode_seconds = encoding.seconds();
  const Stopwatch decoding;
  orrery::Video decoded = tokenizer.decode(latents, coding);
  const double decode_seconds = decoding.seconds();

  // The frames of the original that came back, in step with them.
  const int64_t first = tokenizer.spec().first_decoded_frame();
  const int64_t last = std::min(video.num_frames(), first + decoded.num_frames());
  orrery::Video original = video;
  if (first < last) original.frames = video.frames.narrow(0, first, last - first);
  original = cropped(original, decoded.num_frames(), decoded.height(), decoded.width());
  decoded = cropped(decoded, original.num_frames(), original.height(), original.width());

  const double psnr = orrery::psnr(original, decoded), ssim = orrery::ssim(original, decoded);
  const double ratio = compression(original, latents.video, tokenizer.spec().vocabulary);
  check_interrupt();
  if (options.side_by_side) decoded = orrery::side_by_side(original, decoded);
  writer.write(decoded.frames);
  writer.finish();

  if (options.json) {
    const nlohmann::ordered_json json = {{"class", tokenizer.class_name()},
                                         {"frames", original.num_frames()},
                                         {"height", original.height()},
                                         {"width", original.width()},
                                         {"tokens", latents.video.sizes().vec()},
                                         {"psnr", psnr},
                                         {"ssim", ssim},
                                         {"compression", ratio},
                                         {"encode_s", encode_seconds},
                                         {"decode_s", decode_seconds}};
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  std::printf("%s: %lld frames of %lldx%lld\n", tokenizer.class_name().c_str(),
              static_cast<long long>(original.num_frames()), static_cast<long long>(original.width()),
              static_cast<long long>(original.height()));
  std::printf("PSNR         %.2f dB\nSSIM         %.4f\n", psnr, ssim);
  std::printf("compression  %.1f to 1 (8-bit RGB against %s)\n", ratio,
              tokenizer.spec().discrete() ? "packed token indices" : "16-bit latents");
  std::printf("encode       %.2f s\ndecode       %.2f s\n", encode_seconds, decode_seconds);
}

}  // namespace

void add_reconstruct(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("reconstruct", "Put a video through a tokenizer and back; print PSNR, SSIM, compression");
  options->model.add_to(*command);
  options->clip.add_to(*command);
  options->coding.add_to(*command, true);
  command->add_option("-o,--output", options->output, "Video, picture, folder or %05d.png pattern")->required();
  command->add_flag("--side-by-side", options->side_by_side,
                    "Write the original on the left, the reconstruction on the right");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->final_callback([=] { run(*options); });
}

}  // namespace program

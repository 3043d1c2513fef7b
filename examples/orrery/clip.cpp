#include "clip.h"

#include <charconv>
#include <map>

#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/weights.h"
#include "program.h"

namespace program {
namespace {

namespace fs = std::filesystem;
using Metadata = std::map<std::string, std::string>;

// A number of the file's metadata; 0 where it is absent or none.
template <typename Number>
Number number(const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  Number value = 0;
  if (found != metadata.end()) std::from_chars(found->second.data(), found->second.data() + found->second.size(), value);
  return value;
}

}  // namespace

void ClipOptions::add_to(CLI::App& command) {
  CLI::Option_group* source = command.add_option_group("input", "What is coded");
  source->add_option("--video", video, "Video file, GIF, folder of numbered pictures, or a pattern like frames/%05d.png");
  source->add_option("-i,--image", image, "Picture");
  source->require_option(1);
  command.add_option("--num-frames", num_frames, "Read at most so many frames")->check(above_zero());
  command.add_option("--start", start, "Skip so many seconds")->check(not_negative());
  command.add_option("--fps", fps, "Resample to this rate by time stamps")->check(above_zero());
  command.add_option("-W,--width", width, "Resize to this width")->check(above_zero());
  command.add_option("-H,--height", height, "Resize to this height")->check(above_zero());
}

orrery::Video ClipOptions::read() const {
  const orrery::ResizeOptions size{.height = height, .width = width};
  if (!image.empty()) return orrery::read_image(image, size);
  orrery::ReadOptions options{.start = start, .size = size};
  if (num_frames > 0) options.num_frames = num_frames;
  if (fps > 0) options.fps = fps;
  return orrery::read_video(video, options);
}

void CodingOptions::add_to(CLI::App& command, bool fit) {
  if (fit) {
    CLI::Option* padding =
        command.add_flag("--pad", pad, "Where the clip does not fit, repeat its last frame and its edges");
    command.add_flag("--trim", trim, "Where the clip does not fit, cut its end, its right and its bottom")
        ->excludes(padding);
  }
  command.add_option("--chunk", chunk, "Frames (latents) at a time; the result is the same")->check(above_zero());
  command.add_option("--tile", tile, "Code tiles of so many pixels and blend them: less memory, not exact")
      ->check(above_zero());
  command
      .add_option("--tile-overlap", tile_overlap, "Pixels that neighbouring tiles share; a quarter of a tile if not given")
      ->check(above_zero());
}

orrery::CodeOptions CodingOptions::options() const {
  return {.fit = pad    ? orrery::FitMode::kPad
                 : trim ? orrery::FitMode::kTrim
                        : orrery::FitMode::kError,
          .chunk = chunk,
          .raw = true,
          .tile = tile,
          .tile_overlap = tile_overlap,
          .work = work()};
}

void Tokens::save(const fs::path& path) const {
  const bool discrete = !latents.video.is_floating_point();
  const at::Tensor stored = latents.video.to(discrete ? at::kInt : at::kFloat);
  orrery::save_safetensors(path, {{discrete ? "indices" : "latent", stored}},
                           {{"class", class_name},
                            {"fps", std::to_string(latents.fps)},
                            {"frames", std::to_string(frames)},
                            {"height", std::to_string(height)},
                            {"width", std::to_string(width)}});
}

Tokens Tokens::load(const fs::path& path) {
  const orrery::TensorMap tensors = orrery::load_safetensors(path);
  const Metadata metadata = orrery::Weights::open(path).metadata();
  Tokens tokens;
  for (const char* name : {"latent", "indices"})
    if (tensors.contains(name) && !tokens.latents.video.defined()) {
      const at::Tensor& tensor = tensors.at(name);
      // A picture's tokens may lack the time axis, as an image tokenizer of `eval` gives them.
      const int64_t time = tensor.is_floating_point() ? 2 : 1;
      tokens.latents.video = tensor.dim() == time + 2 ? tensor.unsqueeze(time) : tensor;
    }
  if (!tokens.latents.video.defined())
    throw orrery::Error(orrery::ErrorKind::kArgument,
                        {.place = path.string(), .what = "holds no tokens", .expected = "a tensor 'latent' or 'indices'"});
  tokens.latents.fps = number<double>(metadata, "fps");
  tokens.frames = number<int64_t>(metadata, "frames");
  tokens.height = number<int64_t>(metadata, "height");
  tokens.width = number<int64_t>(metadata, "width");
  for (int i = 1; tensors.contains("latent." + std::to_string(i)); ++i)
    tokens.later.push_back(tensors.at("latent." + std::to_string(i)));
  tokens.overlap = number<int64_t>(metadata, "overlap");
  if (const auto found = metadata.find("class"); found != metadata.end()) tokens.class_name = found->second;
  return tokens;
}

orrery::Video cropped(const orrery::Video& video, int64_t frames, int64_t height, int64_t width) {
  const auto cut = [](const at::Tensor& tensor, int64_t dim, int64_t size) {
    return size > 0 && size < tensor.size(dim) ? tensor.narrow(dim, 0, size) : tensor;
  };
  return {cut(cut(cut(video.frames, 0, frames), 1, height), 2, width).contiguous(), video.fps};
}

}  // namespace program

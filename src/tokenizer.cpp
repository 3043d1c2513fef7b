#include "orrery/tokenizer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <sstream>

#include "checks.h"
#include "chunks.h"
#include "fit.h"
#include "guarded.h"
#include "media/convert.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "tiles.h"

namespace orrery {
namespace {

std::string sizes_text(const at::Tensor& tensor) {
  if (!tensor.defined()) return "nothing";
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
}

// Tells how far a stage is, and stops it when that is asked for.
class Meter {
 public:
  Meter(const char* stage, int64_t total, const WorkOptions& work) : stage_(stage), total_(total), work_(work) {
    advance(0);
  }

  void advance(int64_t units) {
    work_.cancel.check(stage_);
    done_ += units;
    if (!work_.on_progress) return;
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    const double left = done_ > 0 ? seconds / static_cast<double>(done_) * static_cast<double>(total_ - done_) : -1;
    work_.on_progress({stage_, done_, total_, left});
  }

 private:
  using Clock = std::chrono::steady_clock;
  const char* stage_;
  int64_t total_, done_ = 0;
  const WorkOptions& work_;
  Clock::time_point start_ = Clock::now();
};

int64_t chunk_of(const CodeOptions& options, int64_t preferred) {
  return options.chunk > 0 ? options.chunk : preferred;
}

}  // namespace

Tokenizer Tokenizer::from_pretrained(const std::string& path, const LoadOptions& options) {
  std::shared_ptr<Component> component = load_component(path, "vae", options);
  auto autoencoder = std::dynamic_pointer_cast<const Autoencoder>(component);
  if (!autoencoder)
    throw Error(ErrorKind::kUnsupported,
                {.place = path, .what = component->class_name() + " is no video tokenizer", .expected = "an autoencoder"});
  return Tokenizer(std::move(autoencoder));
}

Tokenizer::Tokenizer(std::shared_ptr<const Autoencoder> autoencoder) : autoencoder_(std::move(autoencoder)) {
  if (!autoencoder_)
    throw Error(ErrorKind::kArgument, {.place = "Tokenizer", .what = "needs an autoencoder", .got = "nothing"});
}

Latents Tokenizer::encode(const Video& video, const CodeOptions& options) const {
  const std::string place = class_name() + ".encode";
  if (!autoencoder_->has_encoder())
    throw Error(ErrorKind::kUnsupported, {.place = class_name(), .what = "this checkpoint holds only a decoder"});
  return guarded(place, [&]() -> Latents {
    const Video clip = fitted(video, spec(), options.fit);
    const int64_t stride = spec().spatial_stride;
    const Tiles tiles(clip.height() / stride, clip.width() / stride, options, spec());
    if (spec().discrete() && tiles.count() > 1)
      throw Error(
          ErrorKind::kUnsupported,
          {.place = place, .what = "tokens of a discrete tokenizer cannot be blended", .hint = "encode without tiles"});
    Meter meter("encode", clip.num_frames(), options.work);
    std::vector<CodecCache> caches;
    std::vector<at::Tensor> latents;
    int64_t window_latents = 0;
    for_each_chunk(clip.num_frames(), spec().window_frames, chunk_of(options, autoencoder_->preferred_encode_chunk()),
                   [&](const Chunk& chunk) {
                     if (chunk.first) caches.assign(tiles.count(), {}), window_latents = 0;
                     const at::Tensor sample =
                         to_input_on({clip.frames.narrow(0, chunk.begin, chunk.count), clip.fps}, autoencoder_->device());
                     std::vector<at::Tensor> parts;
                     for (size_t i = 0; i < tiles.count(); ++i) {
                       const Encoded encoded =
                           autoencoder_->encode_chunk(tiles.cut(sample, i, stride), caches[i], chunk.last);
                       parts.push_back(spec().discrete() ? encoded.indices : encoded.latent);
                     }
                     at::Tensor latent = tiles.blend(parts, 1);
                     if (spec().discrete()) {
                       latent = latent.to(at::kLong);
                     } else {
                       check_finite(latent, sample, place, "video");
                       if (!options.raw) latent = autoencoder_->normalization().apply(latent, window_latents);
                       window_latents += latent.size(2);
                     }
                     latents.push_back(latent);
                     meter.advance(chunk.count);
                   });
    return {.video = at::cat(latents, spec().discrete() ? 1 : 2).cpu(), .fps = clip.fps};
  });
}

void Tokenizer::decode(const Latents& latents, const std::function<void(const at::Tensor& frames)>& sink,
                       const CodeOptions& options) const {
  const std::string place = class_name() + ".decode";
  if (!autoencoder_->has_decoder())
    throw Error(ErrorKind::kUnsupported, {.place = class_name(), .what = "this checkpoint holds only an encoder"});
  guarded(place, [&] {
    const at::Tensor& video = latents.video;
    const bool tokens = video.defined() && !video.is_floating_point();
    if (!video.defined() || video.dim() != (tokens ? 4 : 5) || video.numel() == 0 ||
        (!tokens && video.size(1) != spec().latent_channels))
      throw Error(ErrorKind::kArgument,
                  {.place = "latents",
                   .what = "have the wrong shape for " + class_name(),
                   .expected = tokens ? "[1, t, h, w]" : "[1, " + std::to_string(spec().latent_channels) + ", t, h, w]",
                   .got = sizes_text(video)});
    if (tokens) check_indices(video, spec().vocabulary);
    const int64_t time = tokens ? 1 : 2, count = video.size(time);
    const int64_t window = spec().window_frames > 0 ? spec().latent_frames(spec().window_frames) : 0;
    const Tiles tiles(video.size(-2), video.size(-1), options, spec());
    Meter meter("decode", count, options.work);
    std::vector<CodecCache> caches;
    int64_t window_latents = 0;
    for_each_chunk(count, window, chunk_of(options, autoencoder_->preferred_decode_chunk()), [&](const Chunk& chunk) {
      if (chunk.first) caches.assign(tiles.count(), {}), window_latents = 0;
      const at::Tensor given = video.narrow(time, chunk.begin, chunk.count).to(autoencoder_->device());
      at::Tensor latent = tokens ? autoencoder_->codes_of(given) : given.to(at::kFloat);
      if (!tokens && !options.raw) latent = autoencoder_->normalization().undo(latent, window_latents);
      window_latents += chunk.count;
      std::vector<at::Tensor> parts;
      for (size_t i = 0; i < tiles.count(); ++i)
        parts.push_back(autoencoder_->decode_chunk(tiles.cut(latent, i, 1), caches[i], chunk.last));
      const int64_t scale = parts.front().size(-1) / tiles.cut(latent, 0, 1).size(-1);
      const at::Tensor sample = tiles.blend(parts, scale);
      check_finite(sample, latent, place, "latents");
      if (sample.size(2) > 0) sink(to_video(sample, latents.fps).frames);
      meter.advance(chunk.count);
    });
  });
}

Video Tokenizer::decode(const Latents& latents, const CodeOptions& options) const {
  std::vector<at::Tensor> frames;
  decode(
      latents, [&](const at::Tensor& part) { frames.push_back(part); }, options);
  return {at::cat(frames, 0), latents.fps};
}

}  // namespace orrery

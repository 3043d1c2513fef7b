#include <algorithm>
#include <string>

#include "orrery/autoencoder.h"
#include "orrery/error.h"

namespace orrery {
namespace {

// Latent frames of one stretch that starts fresh; `frames` must fit.
int64_t latents_of_stretch(const CodecSpec& spec, int64_t frames) {
  return (frames + spec.temporal_stride - 1) / spec.temporal_stride;
}

int64_t frames_of_stretch(const CodecSpec& spec, int64_t latents) {
  return spec.causal ? 1 + spec.temporal_stride * (latents - 1) : spec.temporal_stride * latents;
}

// The nearest counts that fit on both sides, "9 or 13"; only the one above where there is none below.
std::string nearest_counts(const CodecSpec& spec, int64_t frames) {
  int64_t below = frames - 1, above = std::max<int64_t>(frames, 0) + 1;
  while (below > 0 && !spec.takes_frames(below)) --below;
  while (!spec.takes_frames(above)) ++above;
  return (below > 0 ? std::to_string(below) + " or " : "") + std::to_string(above);
}

std::string rule(const CodecSpec& spec) {
  const std::string stride = std::to_string(spec.temporal_stride);
  return spec.causal ? stride + "n+1 frames" : "a multiple of " + stride + " frames";
}

}  // namespace

bool CodecSpec::takes_frames(int64_t frames) const {
  if (frames < 1) return false;
  if (pads_time) return true;
  const int64_t rest = window_frames > 0 ? frames % window_frames : frames;
  return rest == 0 || frames_of_stretch(*this, latents_of_stretch(*this, rest)) == rest;
}

int64_t CodecSpec::latent_frames(int64_t frames) const {
  if (!takes_frames(frames))
    throw Error(ErrorKind::kArgument, {.place = "frame count",
                                       .what = "does not fit this tokenizer",
                                       .expected = rule(*this) + " (" + nearest_counts(*this, frames) + ")",
                                       .got = std::to_string(frames),
                                       .hint = "pad or trim the clip (--pad, --trim), or ask for another count (--num-frames)"});
  if (window_frames <= 0) return latents_of_stretch(*this, frames);
  const int64_t rest = frames % window_frames;
  return frames / window_frames * latents_of_stretch(*this, window_frames) + (rest ? latents_of_stretch(*this, rest) : 0);
}

int64_t CodecSpec::pixel_frames(int64_t latent_frames) const {
  if (latent_frames < 1)
    throw Error(ErrorKind::kArgument, {.place = "latent frame count",
                                       .what = "is too small",
                                       .expected = "at least 1",
                                       .got = std::to_string(latent_frames)});
  if (window_frames <= 0) return frames_of_stretch(*this, latent_frames);
  const int64_t window = latents_of_stretch(*this, window_frames), rest = latent_frames % window;
  return latent_frames / window * window_frames + (rest ? frames_of_stretch(*this, rest) : 0);
}

void CodecSpec::check_size(int64_t height, int64_t width) const {
  const int64_t s = spatial_stride;
  if (height > 0 && width > 0 && height % s == 0 && width % s == 0) return;
  const auto text = [](int64_t h, int64_t w) { return std::to_string(h) + "x" + std::to_string(w); };
  const int64_t low_h = height / s * s, low_w = width / s * s;
  const int64_t high_h = std::max(s, (height + s - 1) / s * s), high_w = std::max(s, (width + s - 1) / s * s);
  const std::string below = low_h > 0 && low_w > 0 ? text(low_h, low_w) + " or " : "";
  throw Error(ErrorKind::kArgument, {.place = "size",
                                     .what = "does not fit this tokenizer",
                                     .expected = "height and width in multiples of " + std::to_string(s) + " (" + below +
                                                 text(high_h, high_w) + ")",
                                     .got = text(height, width),
                                     .hint = "pad, trim or resize the clip (--pad, --trim, -H and -W)"});
}

}  // namespace orrery

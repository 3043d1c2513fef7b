#include "pipeline/decoding.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "checks.h"
#include "chunks.h"
#include "orrery/error.h"
#include "pipeline/stages.h"

namespace orrery::pipeline {

std::string allowed_prompt(const Guardrails& guardrails, std::string prompt) {
  if (!guardrails.prompt) return prompt;
  const Verdict verdict = guardrails.prompt(prompt);
  if (!verdict.allowed)
    throw Error(ErrorKind::kArgument, {.place = "prompt", .what = "was rejected by the guardrail", .got = verdict.reason});
  return prompt;
}

void decode_window(const Autoencoder& autoencoder, const at::Tensor& window_latents, const FrameSink& sink,
                   const WorkOptions& work) {
  const at::Tensor given = window_latents.to(autoencoder.device());
  const at::Tensor latents = given.is_floating_point() ? given : autoencoder.codes_of(given);
  const CodecSpec& spec = autoencoder.spec();
  const int64_t window = spec.window_frames > 0 ? spec.latent_frames(spec.window_frames) : 0;
  ProgressMeter meter(work, "decode", latents.size(2));
  CodecCache cache;
  int64_t within = 0;
  // A network without a wish is given one latent frame at a time: what it makes of it can leave at once.
  const int64_t chunk_frames = std::max<int64_t>(1, autoencoder.preferred_decode_chunk());
  for_each_chunk(latents.size(2), window, chunk_frames, [&](const Chunk& chunk) {
    if (chunk.first) cache = {}, within = 0;
    const at::Tensor latent = autoencoder.normalization().undo(latents.narrow(2, chunk.begin, chunk.count), within);
    within += chunk.count;
    const at::Tensor frames = autoencoder.decode_chunk(latent, cache, chunk.last);
    check_finite(frames, latent, autoencoder.class_name() + ".decode", "latents");
    if (frames.size(2) > 0) sink(frames.to(at::kFloat));
    meter.tell(chunk.begin + chunk.count);
  });
}

void FrameStream::write(const at::Tensor& frames) {
  if (overlap_ > 0) {
    const at::Tensor all = tail_.defined() ? at::cat({tail_, frames}, 2) : frames;
    tail_ = all.slice(2, std::max<int64_t>(0, all.size(2) - overlap_)).clone();
  }
  const int64_t dropped = std::min(skip_, frames.size(2));
  skip_ -= dropped;
  const int64_t count = std::min(frames.size(2) - dropped, total_ - sent_);
  if (count <= 0) return;
  at::Tensor leaving = frames.narrow(2, dropped, count).cpu();
  if (guardrails_.frames) {
    const std::vector<int64_t> shape = leaving.sizes().vec();
    const Verdict verdict = guardrails_.frames(leaving, sent_);
    if (!verdict.allowed)
      throw Error(ErrorKind::kArgument,
                  {.place = "frames " + std::to_string(sent_) + " to " + std::to_string(sent_ + count - 1),
                   .what = "were rejected by the guardrail",
                   .got = verdict.reason});
    if (!leaving.defined() || leaving.sizes() != at::IntArrayRef(shape))
      throw Error(ErrorKind::kArgument, {.place = "guardrail", .what = "gave frames of another shape back"});
  }
  sent_ += count;
  sink_(leaving);
}

}  // namespace orrery::pipeline

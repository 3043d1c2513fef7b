#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "orrery/pipeline.h"

namespace orrery::pipeline {

/// The prompt as the guardrail leaves it. Throws Error(kArgument) where it is rejected.
std::string allowed_prompt(const Guardrails& guardrails, std::string prompt);

/// Decodes one window of latents float [1,C,t,h,w] in dynamics space, or of indices [1,t,h,w], handing on pixels float
/// [1,3,T,H,W] as they are ready, where the decoder runs: memory holds a chunk, not the clip.
void decode_window(const Autoencoder& autoencoder, const at::Tensor& latents, const FrameSink& sink,
                   const WorkOptions& work);

/// What lies between the decoder and the caller: drops the frames that two windows share and those behind the end, shows the
/// rest to the guardrail, and remembers the last frames of a window for the next to go on from. Here frames come from the
/// decoder's device to the processor.
class FrameStream {
 public:
  /// `overlap` frames are shared by neighbouring windows; `total` frames leave.
  FrameStream(const FrameSink& sink, const Guardrails& guardrails, int64_t overlap, int64_t total)
      : sink_(sink), guardrails_(guardrails), overlap_(overlap), total_(total) {}

  /// From now on come the frames of another window.
  void begin_window() { skip_ = windows_++ > 0 ? overlap_ : 0; }
  /// Decoded frames of this window, as they were decoded.
  void write(const at::Tensor& frames);
  /// The last `overlap` frames that were decoded, where they were; undefined before there are so many.
  const at::Tensor& tail() const { return tail_; }

 private:
  const FrameSink& sink_;
  const Guardrails& guardrails_;
  int64_t overlap_, total_, windows_ = 0, skip_ = 0, sent_ = 0;
  at::Tensor tail_;
};

}  // namespace orrery::pipeline

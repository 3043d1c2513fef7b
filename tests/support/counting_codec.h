#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "orrery/autoencoder.h"

namespace orrery::testing {

/// A codec that can be followed by eye: a latent is the mean of the pixels above it in the frame it stands for, plus the
/// number of frames the network has seen since it started; decoding repeats it, plus the number of latents seen.
class Counting final : public Autoencoder {
 public:
  explicit Counting(CodecSpec spec, LatentNormalization normalization = {})
      : spec_(spec), normalization_(std::move(normalization)) {}

  std::string class_name() const override { return "Counting"; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }

  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool) const override {
    std::vector<at::Tensor> latents;
    for (int64_t t = 0; t < sample.size(2); ++t, ++cache.position)
      if (cache.position % spec_.temporal_stride == 0)
        latents.push_back(at::avg_pool2d(sample.select(2, t), spec_.spatial_stride) + cache.position);
    const int64_t s = spec_.spatial_stride;
    if (latents.empty()) return {sample.new_empty({sample.size(0), 3, 0, sample.size(3) / s, sample.size(4) / s}), {}};
    return {at::stack(latents, 2), {}};
  }
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool) const override {
    std::vector<at::Tensor> frames;
    for (int64_t t = 0; t < latent.size(2); ++t, ++cache.position)
      frames.push_back((latent.narrow(2, t, 1) + cache.position)
                           .repeat_interleave(cache.position == 0 ? 1 : spec_.temporal_stride, 2)
                           .repeat_interleave(spec_.spatial_stride, 3)
                           .repeat_interleave(spec_.spatial_stride, 4));
    return at::cat(frames, 2);
  }

 private:
  CodecSpec spec_;
  LatentNormalization normalization_;
};

}  // namespace orrery::testing

#include "orrery/preview.h"

#include <ATen/ATen.h>

#include "guarded.h"
#include "orrery/error.h"
#include "orrery/noise.h"

namespace orrery {
namespace {

constexpr int64_t kSide = 16;    // latents of the frame that is decoded for the fit
constexpr int64_t kCoarse = 4;   // of the noise that is spread over it
constexpr double kRidge = 1e-3;  // keeps a channel that colours nothing at zero

// [h·w, C + 1] of one latent frame [1,C,1,h,w]: a row a latent, 1 behind its channels.
at::Tensor rows_of(const at::Tensor& latent) {
  const at::Tensor rows = latent.flatten(2).squeeze(0).t();
  return at::cat({rows, at::ones({rows.size(0), 1}, rows.options())}, 1);
}

}  // namespace

LatentPreview::LatentPreview(const Autoencoder& autoencoder) : stride_(autoencoder.spec().temporal_stride) {
  const CodecSpec& spec = autoencoder.spec();
  if (spec.discrete() || !autoencoder.has_decoder())
    throw Error(ErrorKind::kUnsupported, {.place = autoencoder.class_name(), .what = "has no latents to look at"});
  guarded("preview", [&] {
    const at::Tensor coarse = normal_noise({1, spec.latent_channels, kCoarse, kCoarse}, /*seed=*/0, /*frame=*/0);
    const at::Tensor latent = at::upsample_bilinear2d(coarse, {kSide, kSide}, /*align_corners=*/false).unsqueeze(2);
    const at::Tensor pixels = autoencoder.decode(autoencoder.normalization().undo(latent.to(autoencoder.device())))
                                  .select(2, 0)
                                  .to(at::kCPU, at::kFloat);
    const at::Tensor colours = at::adaptive_avg_pool2d(pixels, {kSide, kSide}).flatten(2).squeeze(0).t();  // [h·w,3]
    const at::Tensor rows = rows_of(latent);
    const at::Tensor gram = rows.t().matmul(rows) + at::eye(rows.size(1)) * (kRidge * static_cast<double>(rows.size(0)));
    map_ = at::linalg_solve(gram, rows.t().matmul(colours));
  });
}

Video LatentPreview::operator()(const Latents& latents) const {
  return guarded("preview", [&] {
    const at::Tensor& video = latents.video;
    at::Tensor frames = at::empty({1, 3, video.size(2), video.size(3), video.size(4)}, at::kFloat);
    for (int64_t t = 0; t < video.size(2); ++t)
      frames.select(2, t).copy_(
          rows_of(video.narrow(2, t, 1).to(at::kFloat)).matmul(map_).t().reshape({1, 3, video.size(3), video.size(4)}));
    return to_video(frames, latents.fps / static_cast<double>(stride_));
  });
}

}  // namespace orrery

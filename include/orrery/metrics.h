#pragma once

#include "orrery/export.h"
#include "orrery/video.h"

namespace orrery {

/// Peak signal-to-noise ratio in dB over all values of both clips: 10 · log10(255² / mean squared error), as torchmetrics
/// and scikit-image (data_range=255) compute it on the whole array; infinite where they are equal.
/// Throws Error(kArgument) where the frames are not uint8 [T,H,W,3] of one shape, or there are none.
ORRERY_API double psnr(const Video& actual, const Video& expected);

/// Structural similarity (Wang et al. 2004), 1 where the clips are equal: Gaussian window of 11x11 with sigma 1.5, K1 0.01, K2 0.03,
/// population covariance; each channel of each frame by itself, then the mean over all places where the window lies inside.
/// Equal to scikit-image's structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
/// data_range=255, channel_axis=-1) and to torchmetrics' default. A side below 11 cuts the window to the largest odd size
/// that fits. Throws as psnr does.
ORRERY_API double ssim(const Video& actual, const Video& expected);

}  // namespace orrery

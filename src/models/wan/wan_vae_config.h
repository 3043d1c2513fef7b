#pragma once

#include <cstdint>
#include <vector>

#include "orrery/config.h"

namespace orrery::models {

/// The constructor arguments of the reference's AutoencoderKLWan, under its names and with its defaults.
struct WanVaeConfig {
  int64_t base_dim = 96;
  int64_t decoder_base_dim = 96;
  int64_t z_dim = 16;
  std::vector<int64_t> dim_mult = {1, 2, 4, 4};
  int64_t num_res_blocks = 2;
  std::vector<double> attn_scales;          ///< in the encoder, attention after each residual block of a level at this scale (1, 1/2, …)
  std::vector<bool> temperal_downsample = {false, true, true};
  std::vector<double> latents_mean;  ///< [z_dim], or empty
  std::vector<double> latents_std;
  bool is_residual = false;
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t patch_size = 1;
  bool clip_output = true;

  /// Throws Error(kConfig) where a value is of the wrong type or the values contradict each other.
  static WanVaeConfig from(const Config& config);

  /// Whether the encoder's level attends after each residual block; only the form that is not residual can.
  bool attends(int64_t level) const;
  int64_t levels() const { return static_cast<int64_t>(dim_mult.size()); }
  bool downsamples_time(int64_t level) const { return level + 1 < levels() && temperal_downsample[level]; }
  /// Of the decoder's level, counted from the coarsest: the reference reverses the whole list.
  bool upsamples_time(int64_t level) const {
    return level + 1 < levels() && temperal_downsample[temperal_downsample.size() - 1 - level];
  }
  /// Pixel frames a latent frame.
  int64_t temporal_stride() const;
  /// Pixels a latent pixel, in height and in width.
  int64_t spatial_stride() const { return patch_size << (levels() - 1); }
};

}  // namespace orrery::models

#include "models/wan/wan_vae_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace orrery::models {

namespace {

const std::vector<double> kWan21Mean = {-0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,  -0.1517, 1.5508,
                                        0.4134,  -0.0715, 0.5517,  -0.3632, -0.1922, -0.9497, 0.2503,  -0.2921};
const std::vector<double> kWan21Std = {2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                                       3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160};

}  // namespace

WanVaeConfig WanVaeConfig::from(const Config& config) {
  WanVaeConfig c;
  c.base_dim = config.get<int64_t>("base_dim", c.base_dim);
  c.decoder_base_dim = config.get<int64_t>("decoder_base_dim", c.base_dim);
  c.z_dim = config.get<int64_t>("z_dim", c.z_dim);
  c.dim_mult = config.get<std::vector<int64_t>>("dim_mult", c.dim_mult);
  c.num_res_blocks = config.get<int64_t>("num_res_blocks", c.num_res_blocks);
  c.attn_scales = config.get<std::vector<double>>("attn_scales", {});
  c.temperal_downsample = config.get<std::vector<bool>>("temperal_downsample", c.temperal_downsample);
  config.get<double>("dropout", 0);  // of training
  c.latents_mean = config.get<std::vector<double>>("latents_mean", kWan21Mean);
  c.latents_std = config.get<std::vector<double>>("latents_std", kWan21Std);
  c.is_residual = config.get<bool>("is_residual", false);
  c.in_channels = config.get<int64_t>("in_channels", c.in_channels);
  c.out_channels = config.get<int64_t>("out_channels", c.out_channels);
  c.patch_size = config.get<int64_t>("patch_size", 1);
  c.clip_output = config.get<bool>("clip_output", true);
  // Both follow from the layers; the reference reads them only in its pipelines.
  config.get<int64_t>("scale_factor_temporal", 4);
  config.get<int64_t>("scale_factor_spatial", 8);

  const auto positive = [&](const char* key, int64_t value) { config.check(value > 0, key, "a positive number"); };
  positive("base_dim", c.base_dim);
  positive("decoder_base_dim", c.decoder_base_dim);
  positive("z_dim", c.z_dim);
  positive("num_res_blocks", c.num_res_blocks + 1);
  positive("patch_size", c.patch_size);
  positive("dim_mult", c.levels());
  config.check(c.levels() <= 16, "dim_mult", "at most 16 entries");
  for (int64_t multiple : c.dim_mult) positive("dim_mult", multiple);
  config.check(std::ssize(c.temperal_downsample) >= c.levels() - 1, "temperal_downsample",
               "an entry for each of " + std::to_string(c.levels() - 1) + " steps between levels");
  const int64_t area = c.patch_size * c.patch_size;
  for (auto [key, value] : {std::pair("in_channels", c.in_channels), std::pair("out_channels", c.out_channels)}) {
    positive(key, value);
    config.check(value % area == 0, key, "a multiple of patch_size² = " + std::to_string(area));
  }
  if (c.is_residual) {
    // The shortcuts share channels out in whole groups.
    for (int64_t level = 0; level < c.levels(); ++level) {
      const int64_t before = c.base_dim * (level == 0 ? 1 : c.dim_mult[level - 1]), out = c.base_dim * c.dim_mult[level];
      const int64_t factor = (level + 1 < c.levels() ? 4 : 1) * (c.downsamples_time(level) ? 2 : 1);
      config.check(before * factor % out == 0, "dim_mult", "steps whose shortcuts divide evenly");
    }
  }
  return c;
}

bool WanVaeConfig::attends(int64_t level) const {
  const double scale = std::ldexp(1.0, static_cast<int>(-level));
  return !is_residual && std::find(attn_scales.begin(), attn_scales.end(), scale) != attn_scales.end();
}

int64_t WanVaeConfig::temporal_stride() const {
  int64_t stride = 1;
  for (int64_t level = 0; level < levels(); ++level) stride *= downsamples_time(level) ? 2 : 1;
  return stride;
}

}  // namespace orrery::models

#include "sampling/noise.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <numbers>

#include "orrery/noise.h"

namespace orrery::sampling {
namespace {

// Two independent normals from 64 random bits; (bits + ½) / 2³² lies strictly inside (0, 1).
std::array<float, 2> box_muller(uint32_t first, uint32_t second) {
  const double u = (static_cast<double>(first) + 0.5) / 4294967296.0, v = (static_cast<double>(second) + 0.5) / 4294967296.0;
  const double radius = std::sqrt(-2.0 * std::log(u)), angle = 2.0 * std::numbers::pi * v;
  return {static_cast<float>(radius * std::cos(angle)), static_cast<float>(radius * std::sin(angle))};
}

}  // namespace

PhiloxBlock philox4x32_10(PhiloxBlock counter, uint64_t key) {
  auto key_low = static_cast<uint32_t>(key), key_high = static_cast<uint32_t>(key >> 32);
  auto& c = counter.words;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ c[1] ^ key_low, static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ c[3] ^ key_high, static_cast<uint32_t>(a)}};
    key_low += 0x9E3779B9;
    key_high += 0xBB67AE85;
  }
  return counter;
}

at::Tensor normal_noise(at::IntArrayRef shape, const NoiseKey& key) {
  at::Tensor noise = at::empty(shape, at::kFloat);
  float* values = noise.data_ptr<float>();
  const int64_t count = noise.numel();
  for (int64_t i = 0; i < count; i += 4) {
    const auto block = static_cast<uint64_t>(i / 4);
    const auto bits = philox4x32_10(
        {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), key.step, key.frame}}, key.seed);
    const auto first = box_muller(bits.words[0], bits.words[1]), second = box_muller(bits.words[2], bits.words[3]);
    const std::array<float, 4> four = {first[0], first[1], second[0], second[1]};
    for (int64_t k = 0; k < 4 && i + k < count; ++k) values[i + k] = four[k];
  }
  return noise;
}

at::Tensor latent_noise(at::IntArrayRef shape, const NoiseKey& key) {
  at::Tensor noise = at::empty(shape, at::kFloat);
  for (int64_t frame = 0; frame < shape[2]; ++frame)
    noise.select(2, frame).copy_(normal_noise({shape[0], shape[1], shape[3], shape[4]},
                                              {key.seed, key.frame + static_cast<uint32_t>(frame), key.step}));
  return noise;
}

}  // namespace orrery::sampling

namespace orrery {

at::Tensor normal_noise(at::IntArrayRef shape, uint64_t seed, uint32_t frame, uint32_t step) {
  return sampling::normal_noise(shape, {.seed = seed, .frame = frame, .step = step});
}

}  // namespace orrery

#pragma once

#include "kernels/common/exact.h"

namespace orrery::kernels {

/// Four 32-bit words of counter or of random bits.
struct Philox {
  uint32_t words[4];
};

/// Philox4x32 of ten rounds. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
ORRERY_EVERYWHERE Philox philox4x32_10(Philox counter, uint64_t key) {
  auto key_low = static_cast<uint32_t>(key), key_high = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter.words[0], b = uint64_t{0xCD9E8D57} * counter.words[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ counter.words[1] ^ key_low, static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ counter.words[3] ^ key_high, static_cast<uint32_t>(a)}};
    key_low += 0x9E3779B9;
    key_high += 0xBB67AE85;
  }
  return counter;
}

/// Which stream of the one noise field that a seed stands for.
struct NoiseStream {
  uint64_t seed;
  uint32_t frame;
  uint32_t step;
};

/// The standard normals 4·block … 4·block + 3 of a stream: Philox, then Box-Muller in float64, rounded to float32. The same
/// bits on every machine.
ORRERY_EVERYWHERE void four_normals(const NoiseStream& stream, uint64_t block, float (&values)[4]) {
  const Philox bits = philox4x32_10(
      {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), stream.step, stream.frame}}, stream.seed);
  for (int pair = 0; pair < 2; ++pair) {
    // (bits + ½) / 2³² lies strictly inside (0, 1) and is exact.
    const double u = exact::mul(exact::add(bits.words[2 * pair], 0.5), 0x1p-32);
    const double v = exact::mul(exact::add(bits.words[2 * pair + 1], 0.5), 0x1p-32);
    const double radius = exact::root(exact::mul(-2.0, exact::log(u)));
    double cosine, sine;
    exact::cos_sin_of_turn(v, cosine, sine);
    values[2 * pair] = static_cast<float>(exact::mul(radius, cosine));
    values[2 * pair + 1] = static_cast<float>(exact::mul(radius, sine));
  }
}

}  // namespace orrery::kernels

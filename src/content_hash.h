#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace orrery {

/// A 64-bit hash of bytes: four lanes of multiply and rotate over little-endian words, so that it reads at the speed of
/// memory and is the same on every machine. It finds accidents (damage, another model), it is no defence against somebody
/// who looks for collisions.
class ContentHash {
 public:
  /// Words are taken from each call alone: hash what belongs together in the same pieces.
  void add(const void* data, size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    size_t at = 0;
    for (; at + 32 <= size; at += 32)
      for (size_t lane = 0; lane < 4; ++lane) mix(lane, word(bytes + at + 8 * lane, 8));
    for (size_t lane = 0; at < size; at += 8, ++lane) mix(lane, word(bytes + at, size - at < 8 ? size - at : 8));
    mix(0, size);
  }
  void add(std::string_view text) { add(text.data(), text.size()); }

  uint64_t value() const {
    uint64_t sum = 0;
    for (const uint64_t lane : lanes_) sum = std::rotl(sum ^ lane, 29) * kOdd;
    sum ^= sum >> 32;
    sum *= 0xD6E8FEB86659FD93u;
    return sum ^ (sum >> 32);
  }

 private:
  static constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;  // 2⁶⁴ over the golden ratio

  static uint64_t word(const unsigned char* bytes, size_t count) {
    uint64_t value = 0;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&value, bytes, count);
    } else {
      for (size_t i = 0; i < count; ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
    }
    return value;
  }
  void mix(size_t lane, uint64_t value) {
    lanes_[lane] = std::rotl(lanes_[lane] ^ (value * kOdd), 31) * 0xC2B2AE3D27D4EB4Fu + lane;
  }

  uint64_t lanes_[4] = {1, 2, 3, 4};
};

}  // namespace orrery

#pragma once

#include <ATen/core/Tensor.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "orrery/weights.h"

namespace orrery {

/// Writes numbers, strings and tensors one after the other, little-endian, into a sealed envelope: eight letters that say
/// what it is, a version, the sizes, and a checksum over all of it.
class ByteWriter {
 public:
  /// `kind` has eight letters.
  ByteWriter(std::string_view kind, uint32_t version);

  template <typename T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T> && std::endian::native == std::endian::little);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view text);
  void tensor(const at::Tensor& tensor);  ///< may be undefined; on the CPU
  void tensors(const TensorMap& tensors);

  std::string sealed() &&;

 private:
  std::string bytes_;
};

/// Reads what ByteWriter wrote. Every size is checked before it is believed; throws Error(kArgument) that begins with
/// `place`.
class ByteReader {
 public:
  /// Checks kind, version, size and checksum.
  ByteReader(std::string_view bytes, std::string_view kind, uint32_t version, std::string place);

  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::string_view text();
  at::Tensor tensor();
  TensorMap tensors();
  /// A count of things that take at least `least` bytes each.
  uint32_t count(size_t least);
  /// Throws unless everything was read.
  void end() const;

 private:
  const char* take(size_t size);
  [[noreturn]] void damaged(const std::string& what) const;

  std::string_view rest_;
  std::string place_;
};

}  // namespace orrery

#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace orrery::weights_detail {

/// Bytes of one element; 0 for a type that no checkpoint stores.
int64_t element_bytes(c10::ScalarType dtype);
/// The type behind a safetensors name ("F32", "BF16", "F8_E4M3", …); empty when unknown.
std::optional<c10::ScalarType> dtype_of_safetensors(std::string_view name);
/// The safetensors name of a type; empty when the format has none.
std::string_view safetensors_name(c10::ScalarType dtype);
/// Elements of a shape; empty when a size is negative or the product (times `element_bytes`) exceeds int64.
template <typename Sizes>
std::optional<int64_t> count_elements(const Sizes& shape, int64_t element_bytes) {
  // A zero anywhere makes the product zero, but the others must still be sane.
  int64_t count = 1;
  bool empty = false;
  for (const int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size == 0)
      empty = true;
    else if (__builtin_mul_overflow(count, size, &count))
      return std::nullopt;
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(count, element_bytes, &bytes)) return std::nullopt;
  return empty ? 0 : count;
}
/// "[2, 3]".
template <typename Sizes>
std::string shape_text(const Sizes& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}
/// At most five names, then "and N more".
template <typename Names>
std::string list_names(const Names& names) {
  constexpr size_t kListed = 5;
  std::string text;
  size_t listed = 0;
  for (const auto& name : names) {
    if (listed == kListed) return text + " and " + std::to_string(names.size() - kListed) + " more";
    text += (listed++ ? ", " : "") + std::string(name);
  }
  return text;
}

}  // namespace orrery::weights_detail

#include "weights/dtypes.h"

#include <array>

namespace orrery::weights_detail {
namespace {

using c10::ScalarType;

struct Row {
  ScalarType dtype;
  std::string_view name;  // in safetensors
  int64_t bytes;
};

constexpr std::array kTable = {
    Row{ScalarType::Bool, "BOOL", 1},
    Row{ScalarType::Byte, "U8", 1},
    Row{ScalarType::Char, "I8", 1},
    Row{ScalarType::Short, "I16", 2},
    Row{ScalarType::UInt16, "U16", 2},
    Row{ScalarType::Int, "I32", 4},
    Row{ScalarType::UInt32, "U32", 4},
    Row{ScalarType::Long, "I64", 8},
    Row{ScalarType::UInt64, "U64", 8},
    Row{ScalarType::Float8_e4m3fn, "F8_E4M3", 1},
    Row{ScalarType::Float8_e5m2, "F8_E5M2", 1},
    Row{ScalarType::Float8_e4m3fnuz, "F8_E4M3FNUZ", 1},
    Row{ScalarType::Float8_e5m2fnuz, "F8_E5M2FNUZ", 1},
    Row{ScalarType::Float8_e8m0fnu, "F8_E8M0", 1},
    Row{ScalarType::Half, "F16", 2},
    Row{ScalarType::BFloat16, "BF16", 2},
    Row{ScalarType::Float, "F32", 4},
    Row{ScalarType::Double, "F64", 8},
    Row{ScalarType::ComplexFloat, "C64", 8},
    Row{ScalarType::ComplexDouble, "", 16},
};

}  // namespace

int64_t element_bytes(ScalarType dtype) {
  for (const Row& row : kTable)
    if (row.dtype == dtype) return row.bytes;
  return 0;
}

std::optional<ScalarType> dtype_of_safetensors(std::string_view name) {
  for (const Row& row : kTable)
    if (!row.name.empty() && row.name == name) return row.dtype;
  return std::nullopt;
}

std::string_view safetensors_name(ScalarType dtype) {
  for (const Row& row : kTable)
    if (row.dtype == dtype) return row.name;
  return {};
}

}  // namespace orrery::weights_detail

#include "weights/npy.h"

#include <array>
#include <charconv>
#include <optional>

#include "weights/cursor.h"
#include "weights/dtypes.h"

namespace orrery::weights_detail {
namespace {

[[noreturn]] void damaged(const std::string& place, std::string what, std::string got = {}) {
  throw Error(
      ErrorKind::kWeights,
      {.place = place, .what = std::move(what), .got = std::move(got), .hint = "the file is damaged or no .npy file"});
}

/// Reads the Python literal in the header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
class Literal {
 public:
  Literal(std::string_view text, const std::string& place) : text_(text), place_(place) {}

  bool take(char wanted) {
    skip_spaces();
    if (text_.empty() || text_.front() != wanted) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char wanted) {
    if (!take(wanted)) damaged(place_, std::string("has a header without '") + wanted + "' where it should be");
  }
  std::string string() {
    skip_spaces();
    const char quote = text_.empty() ? '\0' : text_.front();
    const size_t end = quote == '\'' || quote == '"' ? text_.find(quote, 1) : std::string_view::npos;
    if (end == std::string_view::npos) damaged(place_, "has a header with a broken string");
    const std::string value(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return value;
  }
  bool boolean() {
    skip_spaces();
    for (const std::string_view word : {"True", "False"})
      if (text_.starts_with(word)) {
        text_.remove_prefix(word.size());
        return word == "True";
      }
    damaged(place_, "has a header without True or False where it should be");
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> values;
    expect('(');
    while (!take(')')) {
      skip_spaces();
      int64_t value = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
      if (error != std::errc() || value < 0 || values.size() == 64) damaged(place_, "has a header with a broken shape");
      text_.remove_prefix(static_cast<size_t>(end - text_.data()));
      take('L');  // as Python 2 wrote it
      values.push_back(value);
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return values;
  }
  bool at_bracket() {
    skip_spaces();
    return text_.starts_with('[');
  }

 private:
  void skip_spaces() {
    const size_t first = text_.find_first_not_of(" \t\r\n");
    text_.remove_prefix(first == std::string_view::npos ? text_.size() : first);
  }

  std::string_view text_;
  const std::string& place_;
};

std::optional<c10::ScalarType> dtype_of_numpy(std::string_view name) {
  using c10::ScalarType;
  struct Row {
    std::string_view name;
    ScalarType dtype;
  };
  constexpr std::array kTable = {
      Row{"b1", ScalarType::Bool},         Row{"i1", ScalarType::Char},          Row{"u1", ScalarType::Byte},
      Row{"i2", ScalarType::Short},        Row{"u2", ScalarType::UInt16},        Row{"i4", ScalarType::Int},
      Row{"u4", ScalarType::UInt32},       Row{"i8", ScalarType::Long},          Row{"u8", ScalarType::UInt64},
      Row{"f2", ScalarType::Half},         Row{"f4", ScalarType::Float},         Row{"f8", ScalarType::Double},
      Row{"c8", ScalarType::ComplexFloat}, Row{"c16", ScalarType::ComplexDouble}};
  for (const Row& row : kTable)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

}  // namespace

NpyHeader parse_npy(Bytes file, const std::string& place) {
  Cursor cursor(file, place);
  if (cursor.text(6) != "\x93NUMPY") damaged(place, "is no .npy file");
  const auto version = cursor.number<uint8_t>();
  cursor.take(1);
  if (version < 1 || version > 3) damaged(place, "is of an unknown version", std::to_string(version));
  const uint64_t length = version == 1 ? cursor.number<uint16_t>() : cursor.number<uint32_t>();
  Literal literal(cursor.text(length), place);

  NpyHeader header;
  std::string descr;
  bool has_shape = false;
  literal.expect('{');
  while (!literal.take('}')) {
    const std::string key = literal.string();
    literal.expect(':');
    if (key == "descr") {
      if (literal.at_bracket()) throw Error(ErrorKind::kUnsupported, {.place = place, .what = "holds records, not numbers"});
      descr = literal.string();
    } else if (key == "fortran_order") {
      header.fortran_order = literal.boolean();
    } else if (key == "shape") {
      header.shape = literal.tuple();
      has_shape = true;
    } else {
      damaged(place, "has a header with an unknown key", key);
    }
    if (!literal.take(',')) {
      literal.expect('}');
      break;
    }
  }
  if (descr.size() < 2 || !has_shape) damaged(place, "has a header without descr or shape");
  const auto dtype = dtype_of_numpy(std::string_view(descr).substr(1));
  if (!dtype)
    throw Error(
        ErrorKind::kUnsupported,
        {.place = place, .what = "holds what cannot be read", .expected = "numbers or booleans", .got = "dtype " + descr});
  header.dtype = *dtype;
  header.swapped = descr.front() == '>' && element_bytes(*dtype) > 1;
  header.data_begin = cursor.position();
  const int64_t element = element_bytes(*dtype);
  const auto elements = count_elements(header.shape, element);
  if (!elements) damaged(place, "is impossibly large", shape_text(header.shape));
  cursor.take(static_cast<uint64_t>(*elements * element));
  return header;
}

}  // namespace orrery::weights_detail

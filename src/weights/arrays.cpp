#include "orrery/arrays.h"

#include <ATen/ATen.h>

#include <cstring>

#include "orrery/error.h"
#include "orrery/log.h"
#include "weights/dtypes.h"
#include "weights/npy.h"
#include "weights/sources.h"
#include "weights/zip.h"

namespace orrery {
namespace {

using weights_detail::Bytes;
using weights_detail::FileMap;

void reverse_each(std::byte* data, size_t bytes, size_t width) {
  for (size_t i = 0; i + width <= bytes; i += width) std::reverse(data + i, data + i + width);
}

/// `owner` keeps the bytes alive; without one they are copied.
at::Tensor array_from(Bytes file, const std::shared_ptr<const FileMap>& owner, const std::string& place) {
  const auto header = weights_detail::parse_npy(file, place);
  const int64_t element = weights_detail::element_bytes(header.dtype);
  // In Fortran order the file holds the transpose, row by row.
  std::vector<int64_t> stored_shape = header.shape;
  if (header.fortran_order) std::reverse(stored_shape.begin(), stored_shape.end());
  at::Tensor array;
  if (owner && !header.swapped) {
    const auto begin = static_cast<uint64_t>(file.data() - owner->bytes().data()) + header.data_begin;
    array = weights_detail::tensor_in_map(owner, begin, stored_shape, header.dtype);
  } else {
    array = at::empty(stored_shape, header.dtype);
    auto* data = static_cast<std::byte*>(array.mutable_data_ptr());
    if (array.nbytes() > 0) std::memcpy(data, file.data() + header.data_begin, array.nbytes());
    // A complex number is two numbers.
    if (header.swapped)
      reverse_each(data, array.nbytes(), static_cast<size_t>(at::isComplexType(header.dtype) ? element / 2 : element));
  }
  if (!header.fortran_order) return array;
  std::vector<int64_t> axes;
  for (int64_t axis = array.dim(); axis-- > 0;) axes.push_back(axis);
  return array.permute(axes).contiguous();
}

}  // namespace

at::Tensor load_npy(const std::filesystem::path& path) {
  const auto map = FileMap::open(path);
  return array_from(map->bytes(), map, path.string());
}

TensorMap load_npz(const std::filesystem::path& path) {
  const auto map = FileMap::open(path);
  TensorMap arrays;
  std::vector<std::string> left_out;
  for (const auto& [member, extent] : weights_detail::parse_zip(map->bytes(), path.string())) {
    if (!member.ends_with(".npy")) continue;
    const std::string name = member.substr(0, member.size() - 4), place = path.string() + ": " + name;
    try {
      if (extent.deflated) {
        const std::string text = weights_detail::member_text(map->bytes(), extent, place);
        arrays[name] = array_from({reinterpret_cast<const std::byte*>(text.data()), text.size()}, nullptr, place);
      } else {
        arrays[name] = array_from(map->bytes().subspan(extent.begin, extent.size), map, place);
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kUnsupported) throw;
      left_out.push_back(name);
    }
  }
  if (!left_out.empty())
    log(LogLevel::kWarning,
        path.string() + ": left out arrays that hold no numbers: " + weights_detail::list_names(left_out));
  return arrays;
}

}  // namespace orrery

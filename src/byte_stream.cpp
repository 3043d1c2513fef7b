#include "byte_stream.h"

#include <ATen/ATen.h>

#include <array>

#include "content_hash.h"
#include "orrery/error.h"

namespace orrery {
namespace {

constexpr size_t kKind = 8, kHeader = kKind + sizeof(uint32_t) + sizeof(uint64_t), kSeal = sizeof(uint64_t);
// A dtype is stored as its place in this list.
constexpr std::array kDtypes = {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble,
                                at::kLong,  at::kInt,  at::kByte,     at::kBool};
constexpr uint8_t kUndefined = 255, kMostDimensions = 8;

uint64_t checksum(std::string_view bytes) {
  ContentHash hash;
  hash.add(bytes);
  return hash.value();
}

}  // namespace

ByteWriter::ByteWriter(std::string_view kind, uint32_t version) {
  bytes_.append(kind.substr(0, kKind));
  number(version);
  number(uint64_t{0});  // the whole size, when it is known
}

void ByteWriter::text(std::string_view text) {
  number(static_cast<uint64_t>(text.size()));
  bytes_.append(text);
}

void ByteWriter::tensor(const at::Tensor& tensor) {
  if (!tensor.defined()) return number(kUndefined);
  uint8_t dtype = 0;
  while (dtype < kDtypes.size() && kDtypes[dtype] != tensor.scalar_type()) ++dtype;
  if (dtype == kDtypes.size() || tensor.dim() > kMostDimensions)
    throw Error(ErrorKind::kUnsupported, {.place = "state", .what = "holds a tensor of a kind that cannot be saved"});
  number(dtype);
  number(static_cast<uint8_t>(tensor.dim()));
  for (const int64_t size : tensor.sizes()) number(size);
  const at::Tensor whole = tensor.cpu().contiguous();
  bytes_.append(static_cast<const char*>(whole.const_data_ptr()), whole.nbytes());
}

void ByteWriter::tensors(const TensorMap& tensors) {
  number(static_cast<uint32_t>(tensors.size()));
  for (const auto& [name, each] : tensors) {
    text(name);
    tensor(each);
  }
}

std::string ByteWriter::sealed() && {
  const uint64_t size = bytes_.size() + kSeal;
  std::memcpy(bytes_.data() + kHeader - sizeof size, &size, sizeof size);
  number(checksum(bytes_));
  return std::move(bytes_);
}

ByteReader::ByteReader(std::string_view bytes, std::string_view kind, uint32_t version, std::string place)
    : rest_(bytes), place_(std::move(place)) {
  if (bytes.size() < kHeader + kSeal || bytes.substr(0, kKind) != kind.substr(0, kKind))
    damaged("is no such thing, or cut off");
  take(kKind);
  if (const auto got = number<uint32_t>(); got != version)
    throw Error(ErrorKind::kArgument, {.place = place_,
                                       .what = "was saved by another version of orrery",
                                       .expected = "format " + std::to_string(version),
                                       .got = "format " + std::to_string(got)});
  if (number<uint64_t>() != bytes.size()) damaged("is cut off, or has something after its end");
  uint64_t seal = 0;
  std::memcpy(&seal, bytes.data() + bytes.size() - kSeal, kSeal);
  if (checksum(bytes.substr(0, bytes.size() - kSeal)) != seal) damaged("is damaged: its checksum differs");
  rest_.remove_suffix(kSeal);
}

const char* ByteReader::take(size_t size) {
  if (size > rest_.size()) damaged("ends too early");
  const char* here = rest_.data();
  rest_.remove_prefix(size);
  return here;
}

std::string_view ByteReader::text() {
  const auto size = number<uint64_t>();
  return {take(size), static_cast<size_t>(size)};
}

uint32_t ByteReader::count(size_t least) {
  const auto count = number<uint32_t>();
  if (count > rest_.size() / least) damaged("claims more than it holds");
  return count;
}

at::Tensor ByteReader::tensor() {
  const auto dtype = number<uint8_t>();
  if (dtype == kUndefined) return {};
  const auto dimensions = number<uint8_t>();
  if (dtype >= kDtypes.size() || dimensions > kMostDimensions) damaged("holds a tensor of an unknown kind");
  std::vector<int64_t> sizes;
  uint64_t bytes = c10::elementSize(kDtypes[dtype]);
  for (uint8_t i = 0; i < dimensions; ++i) {
    const auto size = number<int64_t>();
    if (size < 0 || (size > 0 && bytes > rest_.size() / static_cast<uint64_t>(size)))
      damaged("holds a tensor larger than itself");
    bytes *= static_cast<uint64_t>(size);
    sizes.push_back(size);
  }
  at::Tensor tensor = at::empty(sizes, kDtypes[dtype]);
  if (bytes > 0) std::memcpy(tensor.mutable_data_ptr(), take(bytes), bytes);
  return tensor;
}

TensorMap ByteReader::tensors() {
  TensorMap tensors;
  for (uint32_t left = count(9); left > 0; --left) {
    const std::string name(text());
    tensors[name] = tensor();
  }
  return tensors;
}

void ByteReader::end() const {
  if (!rest_.empty()) damaged("holds more than it should");
}

void ByteReader::damaged(const std::string& what) const {
  throw Error(ErrorKind::kArgument, {.place = place_, .what = what});
}

}  // namespace orrery

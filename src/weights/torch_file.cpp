#include "weights/torch_file.h"

#include <algorithm>
#include <charconv>

#include "weights/cursor.h"

namespace orrery::weights_detail {
namespace {

using Kind = Pickle::Kind;
using Ref = Pickle::Ref;

constexpr size_t kTarBlock = 512;
// torch.serialization.MAGIC_NUMBER, little-endian as a pickle holds it.
constexpr std::string_view kMagic = {"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10};

[[noreturn]] void damaged(const std::string& place, std::string what) {
  throw Error(ErrorKind::kWeights, {.place = place, .what = std::move(what), .hint = "the file is incomplete or damaged"});
}

int64_t bytes_of(int64_t elements, int64_t element, const std::string& place) {
  int64_t bytes = 0;
  if (elements < 0 || __builtin_mul_overflow(elements, element, &bytes)) damaged(place, "has a storage of impossible size");
  return bytes;
}

/// Several pickles one after another, with raw bytes between them.
class PickleStream {
 public:
  PickleStream(Bytes bytes, const std::string& place) : bytes_(bytes), cursor_(bytes, place) {}
  Pickle next() {
    Pickle pickle = Pickle::parse(bytes_.subspan(cursor_.position()), cursor_.place());
    cursor_.take(pickle.length());
    return pickle;
  }
  Cursor& cursor() { return cursor_; }

 private:
  Bytes bytes_;
  Cursor cursor_;
};

// --- the zip form (torch 1.6 and later, and TorchScript) ---

StoredTensors parse_zip_form(Bytes file, const std::string& place, std::vector<std::string>& skipped) {
  const auto members = parse_zip(file, place);
  std::string root;
  const Extent* data = nullptr;
  for (const auto& [name, extent] : members) {
    if (name != "data.pkl" && !name.ends_with("/data.pkl")) continue;
    if (data && name.size() > root.size() + 8) continue;  // the outermost one
    root = name.substr(0, name.size() - std::string_view("data.pkl").size());
    data = &extent;
  }
  if (!data)
    throw Error(ErrorKind::kWeights,
                {.place = place,
                 .what = "is a zip archive without data.pkl",
                 .hint = members.contains(root + "model.json") ? "it is a TorchScript file older than torch 1.4"
                                                               : "it is no checkpoint that torch wrote"});
  if (const auto order = members.find(root + "byteorder"); order != members.end())
    if (member_text(file, order->second, place).starts_with("big"))
      throw Error(ErrorKind::kUnsupported, {.place = place, .what = "was written on a big-endian machine"});

  const std::string text = data->deflated ? member_text(file, *data, place) : std::string();
  const Bytes bytes = data->deflated ? Bytes(reinterpret_cast<const std::byte*>(text.data()), text.size())
                                     : file.subspan(data->begin, data->size);
  const Pickle pickle = Pickle::parse(bytes, place);
  const LocateStorage locate = [&](const StorageRequest& request) -> std::optional<Extent> {
    for (const char* folder : {"data/", "tensors/", ""})
      if (const auto found = members.find(root + folder + request.key); found != members.end()) return found->second;
    return std::nullopt;
  };
  return collect_tensors(pickle, locate, {}, place, skipped);
}

// --- the legacy form (torch 0.1.10 to 1.5): pickles, then the storages ---

StoredTensors parse_legacy_form(Bytes file, const std::string& place, std::vector<std::string>& skipped) {
  PickleStream stream(file, place);
  if (const Pickle magic = stream.next(); magic.root().kind != Kind::kBigInt || magic.root().text != kMagic)
    throw Error(ErrorKind::kWeights, {.place = place,
                                      .what = "is a plain pickle",
                                      .expected = "a file that torch.save wrote",
                                      .hint = "save it with torch.save"});
  stream.next();  // protocol version
  const Pickle system = stream.next();
  if (const auto little = system.at(system.root_ref(), "little_endian"); little && !system[*little].integer)
    throw Error(ErrorKind::kUnsupported, {.place = place, .what = "was written on a big-endian machine"});
  const Pickle pickle = stream.next(), keys = stream.next();

  // The element sizes stand only in the main pickle, where each storage is referred to.
  std::map<std::string, int64_t> element_of;
  for (Ref ref = 0; ref < pickle.size(); ++ref) {
    if (pickle[ref].kind != Kind::kPersistent) continue;
    const auto id = pickle.sequence(pickle[ref].args);
    if (id.size() < 5 || pickle.name(id[0]) != "storage") continue;
    const auto dtype = dtype_of_torch(pickle[id[1]].text);
    element_of.emplace(pickle.name(id[2]), dtype ? element_bytes(*dtype) : 1);
  }
  std::map<std::string, Extent> extents;
  for (const Ref key : keys.sequence(keys.root_ref())) {
    const auto element = element_of.find(keys.name(key));
    if (element == element_of.end()) damaged(place, "holds a storage that nothing refers to");
    const auto size = static_cast<uint64_t>(bytes_of(stream.cursor().number<int64_t>(), element->second, place));
    extents[element->first] = {stream.cursor().position(), size, size, false};
    stream.cursor().take(size);
  }
  const LocateStorage locate = [&](const StorageRequest& request) -> std::optional<Extent> {
    const auto found = extents.find(request.key);
    return found == extents.end() ? std::nullopt : std::optional(found->second);
  };
  return collect_tensors(pickle, locate, {}, place, skipped);
}

// --- the tar form (before torch 0.1.10): members "storages", "tensors", "pickle" ---

std::map<std::string, Bytes> parse_tar(Bytes file, const std::string& place) {
  std::map<std::string, Bytes> members;
  Cursor cursor(file, place);
  while (cursor.left() >= kTarBlock) {
    const std::string_view header = cursor.text(kTarBlock);
    if (header[0] == '\0') break;
    const std::string name(header.substr(0, std::min<size_t>(100, header.find('\0'))));
    std::string_view digits = header.substr(124, 12);
    while (digits.starts_with(' ')) digits.remove_prefix(1);
    uint64_t size = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), size, 8).ec != std::errc())
      damaged(place, "has a broken tar header");
    members[name.starts_with("./") ? name.substr(2) : name] = cursor.take(size);
    cursor.take(std::min<uint64_t>(cursor.left(), (kTarBlock - size % kTarBlock) % kTarBlock));
  }
  return members;
}

int64_t integer_root(const Pickle& pickle, const std::string& place) {
  if (pickle.root().kind != Kind::kInt) damaged(place, "has a malformed count");
  return pickle.root().integer;
}

struct TarStorage {
  Extent extent;
  c10::ScalarType dtype;
  int64_t elements;
};

std::map<std::string, TarStorage> read_tar_storages(Bytes member, Bytes file, const std::string& place) {
  std::map<std::string, TarStorage> storages;
  PickleStream stream(member, place);
  const auto start = static_cast<uint64_t>(member.data() - file.data());
  const int64_t count = integer_root(stream.next(), place);
  for (int64_t i = 0; i < count; ++i) {
    const Pickle id = stream.next();  // (key, location, type)
    const auto parts = id.sequence(id.root_ref());
    const auto dtype = parts.size() == 3 ? dtype_of_torch(id[parts[2]].text) : std::nullopt;
    if (!dtype) damaged(place, "has a storage of unknown type");
    const auto elements = stream.cursor().number<int64_t>();
    const auto size = static_cast<uint64_t>(bytes_of(elements, element_bytes(*dtype), place));
    storages[id.name(parts[0])] = {{start + stream.cursor().position(), size, size, false}, *dtype, elements};
    stream.cursor().take(size);
  }
  const Pickle views = stream.next();
  for (const Ref view : views.sequence(views.root_ref())) {  // (key, key of its root, offset, elements)
    const auto parts = views.integers(view);
    if (!parts || parts->size() != 4) damaged(place, "has a malformed storage view");
    const auto root = storages.find(std::to_string((*parts)[1]));
    const int64_t offset = (*parts)[2], elements = (*parts)[3];
    if (root == storages.end() || offset < 0 || elements < 0 || offset > root->second.elements ||
        elements > root->second.elements - offset)
      damaged(place, "has a storage view outside its root");
    const auto element = static_cast<uint64_t>(element_bytes(root->second.dtype));
    TarStorage part = root->second;
    part.extent.begin += static_cast<uint64_t>(offset) * element;
    part.extent.size = part.extent.stored = static_cast<uint64_t>(elements) * element;
    part.elements = elements;
    storages[std::to_string((*parts)[0])] = part;
  }
  return storages;
}

StoredTensors parse_tar_form(Bytes file, const std::string& place, std::vector<std::string>& skipped) {
  const auto members = parse_tar(file, place);
  for (const char* name : {"storages", "tensors", "pickle"})
    if (!members.contains(name)) damaged(place, std::string("is a tar archive without ") + name);
  const auto storages = read_tar_storages(members.at("storages"), file, place);
  StoredTensors known;
  PickleStream stream(members.at("tensors"), place);
  const int64_t count = integer_root(stream.next(), place);
  for (int64_t i = 0; i < count; ++i) {
    const Pickle id = stream.next();  // (key, key of its storage, type)
    const auto parts = id.sequence(id.root_ref());
    const auto storage = parts.size() == 3 ? storages.find(id.name(parts[1])) : storages.end();
    if (storage == storages.end()) damaged(place, "has a tensor without storage");
    const auto dimensions = stream.cursor().number<uint32_t>();
    stream.cursor().take(4);  // the count was once written as 8 bytes
    if (dimensions > 64) damaged(place, "has a tensor of too many dimensions");
    StoredTensor tensor{.dtype = storage->second.dtype, .storage = storage->second.extent};
    for (auto* sizes : {&tensor.shape, &tensor.strides})
      for (uint32_t d = 0; d < dimensions; ++d) sizes->push_back(stream.cursor().number<int64_t>());
    tensor.offset = stream.cursor().number<int64_t>();
    check_bounds(tensor, storage->second.elements, place);
    known[id.name(parts[0])] = tensor;
  }
  const LocateStorage nowhere = [](const StorageRequest&) { return std::optional<Extent>(); };
  return collect_tensors(Pickle::parse(members.at("pickle"), place), nowhere, known, place, skipped);
}

bool looks_like_tar(Bytes file) {
  if (file.size() < kTarBlock) return false;
  const std::string_view start(reinterpret_cast<const char*>(file.data()), kTarBlock);
  if (start.substr(257, 5) == "ustar") return true;
  // The first tars of torch had no magic; their members are known.
  for (const std::string_view name : {"sys_info", "storages", "tensors", "pickle"})
    if (start.starts_with(name) && start[name.size()] == '\0') return true;
  return false;
}

bool looks_like_pickle(Bytes file) {
  return file.size() > 2 && file[0] == std::byte{0x80} && static_cast<uint8_t>(file[1]) <= 5 &&
         static_cast<uint8_t>(file[1]) >= 2;
}

}  // namespace

bool looks_like_torch(Bytes file) {
  // A safetensors header of 640 bytes begins like a pickle of protocol 2.
  const bool safetensors =
      file.size() > 8 && file[8] == std::byte{'{'} &&
      std::all_of(file.begin() + 4, file.begin() + 8, [](std::byte byte) { return byte == std::byte{0}; });
  return !safetensors && (looks_like_zip(file) || looks_like_tar(file) || looks_like_pickle(file));
}

StoredTensors parse_torch_file(Bytes file, const std::string& place, std::vector<std::string>& skipped) {
  if (looks_like_zip(file)) return parse_zip_form(file, place, skipped);
  if (looks_like_tar(file)) return parse_tar_form(file, place, skipped);
  return parse_legacy_form(file, place, skipped);
}

}  // namespace orrery::weights_detail

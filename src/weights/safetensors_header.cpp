#include "weights/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "orrery/error.h"

namespace orrery::weights_detail {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the reference reader's own limit

[[noreturn]] void damaged(const std::string& place, std::string what, std::string expected = {}, std::string got = {}) {
  throw Error(ErrorKind::kWeights, {.place = place,
                                    .what = std::move(what),
                                    .expected = std::move(expected),
                                    .got = std::move(got),
                                    .hint = "the file is damaged or no safetensors file"});
}

[[noreturn]] void incomplete(const std::string& place, uint64_t wanted, uint64_t got) {
  throw Error(ErrorKind::kWeights, {.place = place,
                                    .what = "is incomplete: " + std::to_string(wanted - got) + " bytes are missing",
                                    .expected = std::to_string(wanted) + " bytes",
                                    .got = std::to_string(got),
                                    .hint = "download it again"});
}

/// What is downloaded by mistake in place of weights is readable text; a header's length never is.
void refuse_text(Bytes file, const std::string& place) {
  constexpr size_t kLooked = 512;
  const std::string_view start(reinterpret_cast<const char*>(file.data()), std::min(file.size(), kLooked));
  const auto is_text = [](unsigned char c) {
    return c == '\t' || c == '\n' || c == '\r' || (c >= ' ' && c != 0x7f && c < 0xf8);  // UTF-8 has none above
  };
  if (start.size() < 2 || !std::all_of(start.begin(), start.end(), is_text)) return;
  const auto refuse = [&](std::string what, std::string hint) {
    throw Error(ErrorKind::kWeights, {.place = place, .what = std::move(what), .expected = "a checkpoint", .hint = std::move(hint)});
  };
  if (start.starts_with("version https://git-lfs"))
    refuse("is a pointer of Git LFS, not the file itself", "fetch it: git lfs pull, or orrery pull");
  if (start.starts_with("<")) refuse("is a web page", "download the file itself: orrery pull, or the page's download link");
  refuse("is a text file", "name a .safetensors, .pt or .pth file, or a model's folder");
}

Json parse_json(Bytes text, const std::string& place) {
  std::set<std::string> names;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 4) damaged(place, "has a header that is nested too deeply");
    if (event == Json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second)
      damaged(place + ": " + parsed.get<std::string>(), "stands twice in the header");
    return true;
  };
  const char* begin = reinterpret_cast<const char*>(text.data());
  try {
    Json header = Json::parse(begin, begin + text.size(), check);
    if (!header.is_object()) damaged(place, "has a header that is no JSON object");
    return header;
  } catch (const Json::exception&) {
    damaged(place, "has a header that is no valid JSON");
  }
}

SafetensorsEntry parse_entry(const Json& json, uint64_t data_begin, const std::string& place) {
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets") ||
      !json["dtype"].is_string() || !json["shape"].is_array() || !json["data_offsets"].is_array() ||
      json["data_offsets"].size() != 2)
    damaged(place, "is not described by dtype, shape and data_offsets");
  SafetensorsEntry entry;
  const auto name = json["dtype"].get<std::string>();
  const auto dtype = dtype_of_safetensors(name);
  if (!dtype) throw Error(ErrorKind::kUnsupported, {.place = place, .what = "has a dtype that cannot be read", .got = name});
  entry.dtype = *dtype;
  for (const Json& size : json["shape"]) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      damaged(place, "has a shape that is no list of sizes");
    entry.shape.push_back(size.get<int64_t>());
  }
  const Json &begin = json["data_offsets"][0], &end = json["data_offsets"][1];
  if (!begin.is_number_unsigned() || !end.is_number_unsigned() || begin.get<uint64_t>() > end.get<uint64_t>() ||
      end.get<uint64_t>() > UINT64_MAX / 2)
    damaged(place, "has impossible data_offsets");
  const auto elements = count_elements(entry.shape, element_bytes(entry.dtype));
  if (!elements) damaged(place, "is impossibly large", {}, shape_text(entry.shape));
  const uint64_t bytes = static_cast<uint64_t>(*elements * element_bytes(entry.dtype));
  if (end.get<uint64_t>() - begin.get<uint64_t>() != bytes)
    damaged(place, "has data_offsets that do not fit its shape", std::to_string(bytes) + " bytes",
            std::to_string(end.get<uint64_t>() - begin.get<uint64_t>()));
  entry.begin = data_begin + begin.get<uint64_t>();
  entry.end = data_begin + end.get<uint64_t>();
  return entry;
}

}  // namespace

SafetensorsHeader parse_safetensors(Bytes file, const std::string& place) {
  refuse_text(file, place);
  if (file.size() < kLengthBytes) incomplete(place, kLengthBytes, file.size());
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<uint64_t>(file[i]);
  if (length < 2 || length > kMaxHeader)
    damaged(place, "has an impossible header length", "2 to " + std::to_string(kMaxHeader), std::to_string(length));
  const uint64_t data_begin = kLengthBytes + length;
  if (data_begin > file.size()) incomplete(place, data_begin, file.size());

  SafetensorsHeader header;
  const Json json = parse_json(file.subspan(kLengthBytes, length), place);
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) damaged(place + ": __metadata__", "is no object");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) damaged(place + ": __metadata__." + key, "is no string");
        header.metadata[key] = text.get<std::string>();
      }
    } else {
      header.entries.emplace(name, parse_entry(value, data_begin, place + ": " + name));
    }
  }

  std::vector<const std::pair<const std::string, SafetensorsEntry>*> by_offset;
  for (const auto& entry : header.entries) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t position = data_begin;
  for (const auto* entry : by_offset) {
    if (entry->second.begin != position)
      damaged(place + ": " + entry->first,
              entry->second.begin < position ? "overlaps another tensor" : "leaves a hole before it",
              "offset " + std::to_string(position - data_begin), std::to_string(entry->second.begin - data_begin));
    position = entry->second.end;
  }
  if (position > file.size()) incomplete(place, position, file.size());
  if (position < file.size())
    damaged(place, "is longer than its tensors", std::to_string(position) + " bytes", std::to_string(file.size()));
  return header;
}

}  // namespace orrery::weights_detail

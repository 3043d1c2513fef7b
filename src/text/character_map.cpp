#include "text/character_map.h"

#include <utf8proc.h>

#include <cstring>

#include "orrery/error.h"
#include "text/utf8.h"

// Source: huggingface/tokenizers normalizers/precompiled.rs and its spm_precompiled; google/sentencepiece
// sentencepiece_model.proto.
namespace orrery::text {
namespace {

constexpr uint64_t kNormalizer = 3, kTable = 2;  // fields: of the model, and of its normalizer
constexpr size_t kWholeClusters = 6;             // bytes from which a cluster is looked up character by character

// Reads a protobuf message field by field.
class Message {
 public:
  Message(std::string_view bytes, const std::string& place) : bytes_(bytes), place_(place) {}

  // The next field's number; its bytes, header included, are then whole() and, of a string or message, value().
  std::optional<uint64_t> next() {
    begin_ = at_;
    if (at_ == bytes_.size()) return std::nullopt;
    const uint64_t key = number();
    size_t length = 0;
    switch (key & 7) {
      case 0: number(); break;
      case 1: length = 8; break;
      case 2: length = number(); break;
      case 5: length = 4; break;
      default: damaged();
    }
    if (length > bytes_.size() - at_) damaged();
    value_ = bytes_.substr(at_, length);
    at_ += length;
    return key >> 3;
  }
  std::string_view whole() const { return bytes_.substr(begin_, at_ - begin_); }
  std::string_view value() const { return value_; }

 private:
  [[noreturn]] void damaged() const {
    throw Error(ErrorKind::kConfig,
                {.place = place_, .what = "is no SentencePiece model", .hint = "is the download complete?"});
  }
  uint64_t number() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) damaged();
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    damaged();
  }

  std::string_view bytes_, value_;
  const std::string& place_;
  size_t at_ = 0, begin_ = 0;
};

void append_length(std::string& out, uint64_t length) {
  for (; length >= 128; length >>= 7) out += static_cast<char>(length | 128);
  out += static_cast<char>(length);
}

}  // namespace

CharacterMap CharacterMap::take(std::string& model, const std::string& place) {
  CharacterMap map;
  std::string rest;
  for (Message fields(model, place); const auto field = fields.next();) {
    if (field != kNormalizer) {
      rest += fields.whole();
      continue;
    }
    std::string normalizer, table;
    for (Message inner(fields.value(), place); const auto each = inner.next();)
      if (each == kTable)
        table = inner.value();
      else
        normalizer += inner.whole();
    rest += static_cast<char>(kNormalizer << 3 | 2);
    append_length(rest, normalizer.size());
    rest += normalizer;
    uint32_t bytes = 0;
    if (table.size() < sizeof bytes) continue;
    std::memcpy(&bytes, table.data(), sizeof bytes);
    if (bytes == 0) continue;  // a table of nothing
    if (bytes > table.size() - sizeof bytes || bytes % sizeof(uint32_t) != 0)
      throw Error(ErrorKind::kConfig, {.place = place, .what = "has a damaged table of characters"});
    map.trie_.resize(bytes / sizeof(uint32_t));
    std::memcpy(map.trie_.data(), table.data() + sizeof bytes, bytes);
    map.replacements_ = table.substr(sizeof bytes + bytes);
  }
  model = std::move(rest);
  return map;
}

// Of the shortest beginning of `cluster` that the table has.
std::optional<std::string_view> CharacterMap::replacement(std::string_view cluster) const {
  const auto unit = [&](size_t at) { return at < trie_.size() ? trie_[at] : 0; };
  const auto offset = [](uint32_t value) { return (value >> 10) << ((value & (1u << 9)) >> 6); };
  size_t node = offset(unit(0));
  for (const char c : cluster) {
    const auto byte = static_cast<unsigned char>(c);
    node ^= byte;
    const uint32_t value = unit(node);
    if ((value & (1u << 31 | 0xFFu)) != byte) return std::nullopt;
    node ^= offset(value);
    if ((value >> 8 & 1) == 0) continue;
    const size_t at = unit(node) & ~(1u << 31), end = replacements_.find('\0', at);
    if (at > replacements_.size() || end == std::string::npos) return std::nullopt;
    return std::string_view(replacements_).substr(at, end - at);
  }
  return std::nullopt;
}

std::string CharacterMap::operator()(std::string_view text) const {
  std::string out;
  const auto append = [&](std::string_view character) {
    if (const auto found = replacement(character))
      out += *found;
    else if (is_white_space(first_character(character).first))
      out += ' ';
    else
      out += character;
  };
  std::vector<std::string_view> characters;  // of the cluster that is being read
  const auto flush = [&] {
    if (characters.empty()) return;
    const std::string_view cluster(characters.front().data(),
                                   characters.back().data() + characters.back().size() - characters.front().data());
    const auto found = cluster.size() < kWholeClusters ? replacement(cluster) : std::nullopt;
    if (found)
      out += *found;
    else
      for (const std::string_view each : characters) append(each);
    characters.clear();
  };
  int32_t last = 0, state = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [code, size] = first_character(text.substr(at));
    if (at > 0 && utf8proc_grapheme_break_stateful(last, code, &state)) flush();
    characters.push_back(text.substr(at, size));
    last = code;
    at += size;
  }
  flush();
  return out;
}

}  // namespace orrery::text

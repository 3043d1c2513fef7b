#include "pipeline/ladder.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string_view>
#include <utility>

#include "guarded.h"
#include "models/registry.h"
#include "orrery/error.h"
#include "orrery/log.h"
#include "orrery/weights.h"

namespace orrery::pipeline {
namespace {

constexpr int64_t kOnDevice = 2;  // the block that is computed, and the next, which is on its way (layers/block_stream.h)

// Bytes of a part's weights as they are stored.
struct Held {
  int64_t resident = 0;  // all of them
  int64_t streamed = 0;  // the blocks that lie there together, and what stands around them
};

// The name of the block that a tensor belongs to: up to its first number ("blocks.7" of "blocks.7.attn1.to_q.weight").
std::string block_of(std::string_view name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (begin > 0 && part.find_first_not_of("0123456789") == std::string_view::npos) return std::string(name.substr(0, end));
    begin = end + 1;
  }
  return "";
}

// `at_once`: how many blocks of a list lie in memory together while they are streamed.
Held held_by(const ComponentDescription& part, int64_t at_once) {
  const Weights weights = Weights::open(part.path);
  std::map<std::string, std::map<std::string, int64_t>> lists;  // blocks by the list that they stand in
  Held held;
  for (const std::string& name : weights.names()) {
    const int64_t bytes = weights.info(name)->bytes;
    held.resident += bytes;
    if (const std::string block = block_of(name); !block.empty()) lists[block.substr(0, block.rfind('.'))][block] += bytes;
  }
  int64_t blocks = 0, some = 0;  // of the list that takes most
  for (const auto& [name, list] : lists) {
    int64_t all = 0, largest = 0;
    for (const auto& [each, bytes] : list) all += bytes, largest = std::max(largest, bytes);
    if (all > blocks) blocks = all, some = std::min(all, at_once * largest);
  }
  held.streamed = held.resident - blocks + some;
  return held;
}

bool can_stream(const ComponentDescription& part) {
  for (const models::Entry& entry : models::entries())
    if (part.class_name == entry.class_name) {
      const std::string_view role = entry.role;
      return role == "transformer" || role == "controlnet" || role == "text_encoder";
    }
  return false;
}

std::string text_of(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, bytes < 10'000'000 ? "%.0f KiB" : "%.0f MiB",
                static_cast<double>(bytes) / (bytes < 10'000'000 ? 1024.0 : 1048576.0));
  return text;
}

}  // namespace

Ladder::Ladder(std::vector<ComponentDescription> parts, int64_t max_memory, const LoadOptions& options)
    : parts_(std::move(parts)) {
  if (max_memory <= 0) return;
  std::vector<std::pair<Held, ComponentDescription*>> streamable;
  int64_t staying = 0, lowest = 0;  // bytes: as it stands, and with everything streamed and no encoder of prompts
  for (ComponentDescription& part : parts_) {
    if (part.path.empty() || part.class_name.empty() || part.name.starts_with("tokenizer")) continue;
    const Held held = held_by(part, options.device.is_cpu() ? 1 : kOnDevice);
    staying += held.resident;
    if (!part.name.ends_with("_encoder")) lowest += can_stream(part) ? held.streamed : held.resident;
    if (can_stream(part)) streamable.emplace_back(held, &part);
  }
  if (!options.device.is_cpu() && lowest > max_memory)
    throw Error(ErrorKind::kArgument, {.place = "max memory",
                                       .what = "does not hold this model even one block at a time",
                                       .expected = "at least " + text_of(lowest) + ", and as much again to work in",
                                       .got = text_of(max_memory),
                                       .hint = "the device cpu reads the weights from their file as it needs them"});
  std::sort(streamable.begin(), streamable.end(),
            [](const auto& a, const auto& b) { return a.first.resident > b.first.resident; });
  for (const auto& [held, part] : streamable) {
    if (staying <= max_memory / 2) break;
    if (!options.device.is_cpu() && options.weights != WeightForm::kStored && !part->name.ends_with("_encoder"))
      throw Error(ErrorKind::kUnsupported, {.place = part->name,
                                            .what = "streams its blocks to the device, and they go there as they are stored",
                                            .hint = "leave --weights away, or give more --max-memory"});
    staying -= held.resident - held.streamed;
    part->config = part->config.with("_stream_from", part->path.string());
    streams_ = true;
    log(LogLevel::kInfo, part->name + ": its blocks are streamed from the disk" +
                             (options.device.is_cpu() ? "" : " to " + options.device.str()));
  }
}

std::string Ladder::next_rung(bool loading) const {
  if (streams_)
    return loading ? "its blocks are streamed already: use a model with smaller ones, or the device cpu"
                   : "its blocks are streamed already: imagine fewer frames at once (--window), or a smaller size";
  int64_t resident = 0, streamed = 0;
  for (const ComponentDescription& part : parts_) {
    if (part.path.empty() || part.name.ends_with("_encoder") || !can_stream(part)) continue;
    const Held held = held_by(part, kOnDevice);
    resident += held.resident;
    streamed += held.streamed;
  }
  return "stream its blocks (--max-memory, the bytes that there are): " + text_of(streamed) +
         " of weights at a time in place of " + text_of(resident);
}

void rethrow_with_rung(const std::string& place, const std::string& rung) {
  try {
    rethrow_as_error(place);
  } catch (const Error& error) {
    if (!is_out_of_memory(error)) throw;
    ErrorDetail detail = error.detail();
    detail.hint = rung;
    throw Error(ErrorKind::kDevice, detail);
  }
}

}  // namespace orrery::pipeline

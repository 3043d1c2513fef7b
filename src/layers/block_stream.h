#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "layers/side_stream.h"
#include "orrery/config.h"
#include "orrery/step_cache.h"
#include "orrery/weights.h"
#include "weights/file.h"

namespace orrery::layers {

/// The blocks of a network, which run one after the other: all in memory, or, where the config says `_stream_from` (the file
/// or folder of the weights), no more of them than are needed. The weights then stay a map of their file: on the processor
/// each block gives its pages back when it is done; on a device each is uploaded while the one before it is computed, so
/// that it holds two, and the host waits for neither.
template <typename Block>
class BlockStream {
 public:
  /// Reads block `index` of the network whose weights these are. Kept, so it holds what it needs by value.
  using Read = std::function<Block(const Weights& weights, int64_t index)>;

  BlockStream() = default;
  BlockStream(const Config& config, const Weights& weights, int64_t count, const Read& read)
      : place_(config.get<std::string>("_stream_from", "")), count_(count) {
    const at::Device device = weights.device();
    const bool uploads = !place_.empty() && !device.is_cpu() && !device.is_meta();
    for (int64_t i = 0; i < count; ++i) {
      if (uploads)
        read(weights.to(weights.dtype(), at::kCPU), i);  // so that what is missing or misshapen is known now
      else
        blocks_.push_back(read(weights, i));
    }
    if (uploads) fetch_ = [read, weights](int64_t i) { return read(weights, i); };
    if (uploads && SideStream::exists_on(device)) side_.emplace(device);
    release();
  }

  /// Calls work(block, index) for one after the other; where it gives a bool, until that is false.
  template <typename Work>
  void for_each(const Work& work) const {
    if (side_) return uploaded_beside(work);
    for (int64_t i = 0; i < count_; ++i) {
      const bool more = fetch_ ? goes_on(work, fetch_(i), i) : goes_on(work, blocks_[static_cast<size_t>(i)], i);
      release();
      if (!more) return;
    }
  }
  /// `hidden` through all blocks: hidden = work(block, index, hidden), which must not write into what it is given. `cache`,
  /// where not null, may leave out those behind the first.
  template <typename Work>
  at::Tensor chain(at::Tensor hidden, StepCache* cache, const Work& work) const {
    if (count_ < 2) cache = nullptr;
    bool shortened = false;
    for_each([&](const Block& block, size_t i) {
      const at::Tensor before = hidden;
      hidden = work(block, i, before);
      shortened = cache && i == 0 && cache->shortens(before, hidden);
      return !shortened;
    });
    if (cache && !shortened) cache->keep(hidden);
    return hidden;
  }
  size_t size() const { return static_cast<size_t>(count_); }

 private:
  template <typename Work>
  static bool goes_on(const Work& work, const Block& block, int64_t i) {
    if constexpr (std::is_void_v<std::invoke_result_t<Work, const Block&, size_t>>) {
      work(block, static_cast<size_t>(i));
      return true;
    } else {
      return work(block, static_cast<size_t>(i));
    }
  }
  template <typename Work>
  void uploaded_beside(const Work& work) const {
    const auto upload = [&](int64_t i) { return side_->run([&] { return std::optional<Block>(fetch_(i)); }); };
    std::optional<Block> next = count_ > 0 ? upload(0) : std::nullopt;
    for (int64_t i = 0; i < count_; ++i) {
      const std::optional<Block> block = std::exchange(next, std::nullopt);
      const SideStream::Use use(*side_);  // ends before the block does
      const bool more = goes_on(work, *block, i);
      if (more && i + 1 < count_) next = upload(i + 1);
      release();
      if (!more) return;
    }
  }
  void release() const {
    if (!place_.empty()) weights_detail::forget_pages(place_);
  }

  std::string place_;
  int64_t count_ = 0;
  std::vector<Block> blocks_;            // empty where they are uploaded
  std::function<Block(int64_t)> fetch_;  // to the device
  std::optional<SideStream> side_;       // where uploads overlap the work
};

}  // namespace orrery::layers

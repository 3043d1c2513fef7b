#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "layers/side_stream.h"
#include "orrery/config.h"
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

  /// Calls work(block, index) for one after the other.
  template <typename Work>
  void for_each(const Work& work) const {
    if (side_) return uploaded_beside(work);
    for (int64_t i = 0; i < count_; ++i) {
      if (fetch_)
        work(fetch_(i), static_cast<size_t>(i));
      else
        work(blocks_[static_cast<size_t>(i)], static_cast<size_t>(i));
      release();
    }
  }
  size_t size() const { return static_cast<size_t>(count_); }

 private:
  template <typename Work>
  void uploaded_beside(const Work& work) const {
    const auto upload = [&](int64_t i) { return side_->run([&] { return std::optional<Block>(fetch_(i)); }); };
    std::optional<Block> next = count_ > 0 ? upload(0) : std::nullopt;
    for (int64_t i = 0; i < count_; ++i) {
      const std::optional<Block> block = std::exchange(next, std::nullopt);
      const SideStream::Use use(*side_);  // ends before the block does
      work(*block, static_cast<size_t>(i));
      if (i + 1 < count_) next = upload(i + 1);
      release();
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

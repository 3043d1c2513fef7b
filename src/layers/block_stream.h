#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "orrery/config.h"
#include "orrery/weights.h"
#include "weights/file.h"

namespace orrery::layers {

/// The blocks of a network, which run one after the other: all in memory, or, where the config says `_stream_from` (the file
/// or folder of the weights), no more of them than the one that is being computed. The weights then stay a map of their
/// file: on the processor each block gives its pages back when it is done, on a device each is uploaded when its turn comes.
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
    release();
  }

  /// Calls work(block, index) for one after the other.
  template <typename Work>
  void for_each(const Work& work) const {
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
  void release() const {
    if (!place_.empty()) weights_detail::forget_pages(place_);
  }

  std::string place_;
  int64_t count_ = 0;
  std::vector<Block> blocks_;            // empty where they are uploaded
  std::function<Block(int64_t)> fetch_;  // to the device
};

}  // namespace orrery::layers

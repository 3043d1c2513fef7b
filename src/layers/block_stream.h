#pragma once

#include <string>

#include "orrery/config.h"
#include "weights/file.h"

namespace orrery::layers {

/// Keeps no more of a network in memory than the block that is being computed, where that was asked for: the weights are a
/// map of their file, and each block gives the pages back when it is done.
class BlockStream {
 public:
  /// `_stream_from` in the config: the file or folder of the weights; absent: nothing is given back.
  explicit BlockStream(const Config& config) : place_(config.get<std::string>("_stream_from", "")) {}
  /// A block is done.
  void release() const {
    if (!place_.empty()) weights_detail::forget_pages(place_);
  }

 private:
  std::string place_;
};

}  // namespace orrery::layers

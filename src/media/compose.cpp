#include <ATen/ATen.h>

#include "guarded.h"
#include "orrery/error.h"
#include "orrery/media.h"

namespace orrery {

Video side_by_side(const Video& left, const Video& right) try {
  if (left.num_frames() == 0 || left.num_frames() != right.num_frames() || left.height() != right.height()) {
    const auto shape = [](const Video& video) {
      return std::to_string(video.num_frames()) + " frames" +
             (video.frames.defined() ? " of height " + std::to_string(video.height()) : "");
    };
    throw Error(ErrorKind::kArgument, {.place = "side_by_side", .what = "the two clips do not fit beside each other",
                                       .expected = shape(left), .got = shape(right), .hint = "resize or cut one of them"});
  }
  return {at::cat({left.frames, right.frames}, 2), left.fps};
} catch (...) {
  rethrow_as_error("side_by_side");
}

}  // namespace orrery

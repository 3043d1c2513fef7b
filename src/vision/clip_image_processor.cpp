#include "vision/clip_image_processor.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "orrery/error.h"

namespace orrery::vision {
namespace {

constexpr int64_t kPillowBilinear = 2, kPillowBicubic = 3;

struct Size {
  int64_t height, width;
};

Size size_of(const Config& config, int64_t height, int64_t width) {
  const Config size = config.object("size");
  Size wanted{};
  if (size.has("height") || size.has("width")) {
    wanted = {size.require<int64_t>("height"), size.require<int64_t>("width")};
  } else {
    const auto shortest = size.get<int64_t>("shortest_edge", 224);
    const int64_t longer = shortest * std::max(height, width) / std::min(height, width);  // rounded down, as the reference
    wanted = height <= width ? Size{shortest, longer} : Size{longer, shortest};
  }
  if (wanted.height < 1 || wanted.width < 1)
    throw Error(ErrorKind::kConfig, {.place = config.place() + ": size", .what = "is not positive"});
  return wanted;
}

at::Tensor channels(const Config& config, const char* key, std::vector<double> fallback) {
  const auto values = config.get<std::vector<double>>(key, std::move(fallback));
  if (values.size() != 3)
    throw Error(ErrorKind::kConfig, {.place = config.place() + ": " + key,
                                     .what = "has the wrong length",
                                     .expected = "3 numbers",
                                     .got = std::to_string(values.size())});
  return at::tensor(values, at::kFloat).view({1, 3, 1, 1});
}

// Float all the way and without antialiasing: uint8 [B,3,H,W] → float [B,3,h,w] in 0…255.
at::Tensor squeezed(const at::Tensor& planes, const Size& size) {
  return at::upsample_bicubic2d(planes.to(at::kFloat), {size.height, size.width}, /*align_corners=*/false);
}

// Resized in 8 bits by the kernel that torchvision calls, so that no pixel rounds another way; then the middle.
at::Tensor cropped(const at::Tensor& planes, const Size& size, const Config& config) {
  const auto resample = config.get<int64_t>("resample", kPillowBicubic);
  if (resample != kPillowBilinear && resample != kPillowBicubic)
    throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": resample",
                                          .what = "is not known",
                                          .expected = "2 (bilinear) or 3 (bicubic)",
                                          .got = std::to_string(resample)});
  const std::vector<int64_t> sides = {size.height, size.width};
  const at::Tensor resized =
      resample == kPillowBicubic
          ? at::_upsample_bicubic2d_aa(planes, sides, /*align_corners=*/false, std::nullopt, std::nullopt)
          : at::_upsample_bilinear2d_aa(planes, sides, /*align_corners=*/false, std::nullopt, std::nullopt);

  const Config crop = config.object("crop_size");
  const auto height = crop.get<int64_t>("height", 224), width = crop.get<int64_t>("width", 224);
  const int64_t spare_rows = size.height - height, spare_columns = size.width - width;
  if (height < 1 || width < 1 || spare_rows < 0 || spare_columns < 0)
    throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": crop_size", .what = "is larger than size"});
  return resized.narrow(2, spare_rows / 2, height).narrow(3, spare_columns / 2, width).to(at::kFloat);
}

}  // namespace

at::Tensor clip_pixels(const Video& pictures, const Config& config) {
  const at::Tensor planes = pictures.frames.permute({0, 3, 1, 2}).contiguous();
  const Size size = size_of(config, planes.size(2), planes.size(3));
  const auto interpolation = config.get<std::string>("_interpolation", "");
  const at::Tensor pixels = interpolation == "bicubic" ? squeezed(planes, size) : cropped(planes, size, config);

  const double scale = 1 / config.get<double>("rescale_factor", 1.0 / 255);
  const at::Tensor mean = channels(config, "image_mean", {0.48145466, 0.4578275, 0.40821073}) * scale;
  const at::Tensor std = channels(config, "image_std", {0.26862954, 0.26130258, 0.27577711}) * scale;
  return (pixels - mean).div_(std).contiguous();
}

}  // namespace orrery::vision

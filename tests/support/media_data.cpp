#include "support/media_data.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "support/paths.h"

namespace orrery::testing {

namespace fs = std::filesystem;

fs::path clip(const std::string& name) { return golden_folder() / "media" / name; }

at::Tensor golden_frames(const std::string& name, at::IntArrayRef shape) {
  at::Tensor frames = at::zeros(shape, at::kByte);
  std::ifstream file(clip(name + ".rgb"), std::ios::binary);
  file.read(reinterpret_cast<char*>(frames.data_ptr<uint8_t>()), frames.numel());
  EXPECT_EQ(file.gcount(), frames.numel()) << name;
  EXPECT_EQ(file.peek(), std::ifstream::traits_type::eof()) << name;
  return frames;
}

int max_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return a.to(at::kInt).sub(b.to(at::kInt)).abs().max().item<int>();
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace orrery::testing

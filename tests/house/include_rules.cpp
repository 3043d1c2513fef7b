#include <regex>
#include <sstream>

#include "house/rules.h"

namespace orrery::testing {
namespace {

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

bool any_prefix(const std::string& text, const std::vector<std::string>& prefixes) {
  for (const auto& prefix : prefixes)
    if (starts_with(text, prefix)) return true;
  return false;
}

// Which of our own headers a room may include. The first rule whose room fits a file's path holds; {family} stands for the
// model family's folder name, "." for headers that lie in src itself.
struct Room {
  std::string path;
  std::vector<std::string> may_include;
};
const std::vector<Room> kRooms = {
    {"include/orrery/", {"orrery/"}},
    {"src/models/registry.cpp", {"orrery/", "models/", "text/", "vision/"}},
    {"src/models/", {"orrery/", "layers/", "ops/", "models/registry.h", "models/{family}/"}},
    {"src/layers/", {"orrery/", "layers/", "ops/", "weights/"}},
    {"src/ops/", {"orrery/", "ops/", "kernels/"}},
    {"src/sampling/", {"orrery/", "sampling/", "ops/"}},
    {"src/pipeline/", {".", "orrery/", "pipeline/", "models/registry.h", "media/", "sampling/", "vision/"}},
    {"src/text/", {"orrery/", "text/", "layers/"}},
    {"src/vision/", {"orrery/", "vision/", "layers/"}},
    {"src/media/convert.cpp", {"guarded.h", "orrery/", "media/", "ops/"}},
    {"src/media/nv12.cpp", {"guarded.h", "orrery/", "media/", "ops/"}},
    {"src/media/", {"guarded.h", "orrery/", "media/"}},
    {"src/weights/", {"orrery/", "weights/"}},
    {"src/hub/", {"orrery/", "hub/"}},
    {"src/load.cpp", {".", "orrery/", "models/registry.h", "ops/cuda_library.h", "weights/"}},
    {"src/", {".", "orrery/", "models/registry.h", "media/", "sampling/", "weights/", "hub/", "text/"}},
    {"kernels/", {"kernels/"}},
    {"examples/orrery/", {"orrery/", ""}},
    {"examples/", {"orrery/"}},
};

// Where a foreign library may be included, by the start of the header's name.
struct Foreign {
  std::vector<std::string> headers;
  std::vector<std::string> places;
};
const std::vector<Foreign> kForeign = {
    {{"libav", "libsw"}, {"src/media/", "tests/"}},
    {{"nlohmann/"}, {"src/config.cpp", "src/weights/", "src/hub/", "src/text/", "examples/", "tests/"}},
    {{"spdlog/", "fmt/"}, {"src/log.cpp"}},
    {{"curl/"}, {"src/hub/", "tests/"}},
    {{"CLI/"}, {"examples/orrery/"}},
    {{"sentencepiece"}, {"src/text/module/"}},
    {{"pcre2"}, {"src/text/", "tests/"}},
    {{"utf8proc"}, {"src/text/", "tests/"}},
    {{"boost/"}, {"examples/", "tests/"}},
    {{"hwy/"}, {"kernels/cpu/", "tests/"}},
    {{"cuda", "cublas", "cudnn", "cooperative_groups", "mma"}, {"kernels/cuda/"}},
    {{"torch/library.h"}, {"tests/support/far_device.cpp"}},  // where a device's operations are registered
    {{"torch/"}, {}},
    {{"ATen/core/Tensor.h"}, {"include/", "src/", "examples/", "tests/", "cmake/pch.h"}},
    {{"ATen/", "c10/"}, {"src/", "examples/", "tests/", "cmake/pch.h"}},
    {{"gtest/", "gmock/", "benchmark/"}, {"tests/"}},
};

std::vector<std::string> own_headers_of(const std::string& path) {
  for (const Room& room : kRooms) {
    if (!starts_with(path, room.path)) continue;
    std::vector<std::string> allowed = room.may_include;
    for (auto& prefix : allowed) {
      const size_t at = prefix.find("{family}");
      if (at == std::string::npos) continue;
      const size_t begin = room.path.size();
      prefix.replace(at, 8, path.substr(begin, path.find('/', begin) - begin));
    }
    return allowed;
  }
  return {""};  // tests and tools may include anything of ours
}

}  // namespace

std::vector<std::string> include_breaches(const std::string& path, const std::string& text) {
  static const std::regex include_line(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
  const auto allowed = own_headers_of(path);
  std::vector<std::string> breaches;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::smatch match;
    if (!std::regex_search(line, match, include_line)) continue;
    const std::string header = match[2];
    const std::string where = path + ":" + std::to_string(number) + ": ";
    if (match[1] == "\"" || starts_with(header, "orrery/")) {
      const bool beside = header.find('/') == std::string::npos && any_prefix(".", allowed);
      if (!beside && !any_prefix(header, allowed)) breaches.push_back(where + "this room may not include " + header);
      continue;
    }
    for (const Foreign& foreign : kForeign) {
      if (!any_prefix(header, foreign.headers)) continue;
      if (!any_prefix(path, foreign.places)) breaches.push_back(where + header + " has no place here");
      break;
    }
  }
  return breaches;
}

}  // namespace orrery::testing

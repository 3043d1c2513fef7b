#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace orrery::testing {

/// A folder for one test, removed with everything in it at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Writes a whole file; makes its folders.
void write_file(const std::filesystem::path& path, std::string_view content);
/// Reads a whole file.
std::string read_file(const std::filesystem::path& path);

}  // namespace orrery::testing

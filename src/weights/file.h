#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace orrery::weights_detail {

using Bytes = std::span<const std::byte>;

/// A whole file in the address space, read-only on disk. Pages cost memory only when touched; a write goes to a private
/// copy.
class FileMap {
 public:
  /// Throws Error(kWeights) when the file cannot be read.
  static std::shared_ptr<const FileMap> open(const std::filesystem::path& path);
  ~FileMap();
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  Bytes bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  FileMap(std::filesystem::path path, void* data, size_t size);

  std::filesystem::path path_;
  void* data_;
  size_t size_;
};

/// Gives back the memory of every mapped file that is `place` or lies under it: its pages are read anew when they are next
/// touched. Safe at any time, whoever reads.
void forget_pages(const std::filesystem::path& place);
/// The same for a part of one file. Memory that is no mapped file is left alone.
void forget_pages(Bytes part);

/// Writes a file beside its place and renames it there in commit(): a reader never sees half of it. Without commit() nothing
/// stays. Every failure is an Error(kDevice) that names the file and the reason (no space left, permission, …).
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  std::string temporary_;
  int file_ = -1;
};

}  // namespace orrery::weights_detail

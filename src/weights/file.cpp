#include "weights/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "orrery/error.h"

namespace orrery::weights_detail {
namespace {

[[noreturn]] void cannot_read(const std::filesystem::path& path, int reason) {
  throw Error(ErrorKind::kWeights,
              {.place = path.string(), .what = std::string("cannot be read (") + std::strerror(reason) + ")"});
}

// The maps that are alive, so that no other memory is ever given back.
struct LiveMaps {
  std::mutex mutex;
  std::set<const FileMap*> maps;
};

LiveMaps& live_maps() {
  static auto* const live = new LiveMaps;  // never destroyed: a tensor may outlive main
  return *live;
}

}  // namespace

void forget_pages(const std::filesystem::path& place) {
  LiveMaps& live = live_maps();
  const std::lock_guard lock(live.mutex);
  for (const FileMap* map : live.maps)
    if (map->path() == place || map->path().parent_path() == place)
      ::madvise(const_cast<std::byte*>(map->bytes().data()), map->bytes().size(), MADV_DONTNEED);
}

void forget_pages(Bytes part) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  // Whole pages only: the ends belong to the neighbours too.
  const auto first = (reinterpret_cast<size_t>(part.data()) + page - 1) / page * page;
  const auto last = (reinterpret_cast<size_t>(part.data()) + part.size()) / page * page;
  if (last <= first) return;
  LiveMaps& live = live_maps();
  const std::lock_guard lock(live.mutex);
  for (const FileMap* map : live.maps) {
    const Bytes bytes = map->bytes();
    if (part.data() >= bytes.data() && part.data() + part.size() <= bytes.data() + bytes.size())
      ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }
}

FileMap::FileMap(std::filesystem::path path, void* data, size_t size) : path_(std::move(path)), data_(data), size_(size) {
  if (!data_) return;
  const std::lock_guard lock(live_maps().mutex);
  live_maps().maps.insert(this);
}

std::shared_ptr<const FileMap> FileMap::open(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) cannot_read(path, errno);
  struct stat status {};
  if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    const int reason = S_ISDIR(status.st_mode) ? EISDIR : errno ? errno : EINVAL;
    ::close(file);
    cannot_read(path, reason);
  }
  const auto size = static_cast<size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {
    // Writable and private, so that an in-place operation on a weight copies its page instead of crashing the process.
    data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
    if (data == MAP_FAILED) {
      const int reason = errno;
      ::close(file);
      cannot_read(path, reason);
    }
  }
  ::close(file);
  return std::shared_ptr<const FileMap>(new FileMap(path, data, size));
}

FileMap::~FileMap() {
  if (!data_) return;
  {
    const std::lock_guard lock(live_maps().mutex);
    live_maps().maps.erase(this);
  }
  ::munmap(data_, size_);
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  temporary_ = path_.string() + ".XXXXXX";
  file_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
  if (file_ < 0) {
    temporary_.clear();
    fail("cannot be written");
  }
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(file_, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written");
    next += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  // mkostemp makes the file private; give it what a plain open() would have.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  if (::fchmod(file_, 0666 & ~mask) != 0) fail("cannot be written");
  const int closed = ::close(file_);
  file_ = -1;
  if (closed != 0) fail("cannot be written");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot be put in its place");
  temporary_.clear();
}

void AtomicFile::fail(const char* what) const {
  const int reason = errno;
  throw Error(ErrorKind::kDevice, {.place = path_.string(),
                                   .what = std::string(what) + " (" + std::strerror(reason) + ")",
                                   .hint = reason == ENOSPC ? "free some space or choose another disk" : ""});
}

}  // namespace orrery::weights_detail

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "media/frame_sink.h"

namespace orrery::media {

namespace fs = std::filesystem;

Partial::Partial(const fs::path& target, Kind kind) : target_(target) {
  std::string stem = ".";
  stem += target.filename().string() + ".partial-" + std::to_string(getpid()) + "-";
  for (int attempt = 0;; ++attempt) {
    path_ = target.parent_path() / (stem + std::to_string(attempt));
    if (kind == Kind::kFolder) {
      if (mkdir(path_.c_str(), 0777) == 0) return;
    } else if (const int file = open(path_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666); file >= 0) {
      close(file);
      return;
    }
    if (errno != EEXIST) {
      const int error = errno;
      path_.clear();
      fail_writing(target, AVERROR(error));
    }
  }
}

Partial::~Partial() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void Partial::move_to_target() {
  std::error_code error;
  fs::rename(path_, target_, error);
  if (error) fail_writing(target_, AVERROR(error.value()));
  path_.clear();
}

}  // namespace orrery::media

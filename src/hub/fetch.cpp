#include "hub/fetch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "hub/sha256.h"
#include "orrery/error.h"
#include "orrery/log.h"

namespace orrery::hub_detail {
namespace {

namespace fs = std::filesystem;

constexpr int kTries = 4;  // without a byte of progress between them
constexpr double kReportEvery = 0.2;
constexpr auto kFirstWait = std::chrono::milliseconds(250);

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void disk_failure(const fs::path& path, int reason) {
  throw Error(
      ErrorKind::kDevice,
      {.place = path.string(),
       .what = std::string("cannot be written (") + std::strerror(reason) + ")",
       .hint = reason == ENOSPC || reason == EDQUOT ? "free some space, or set HF_HOME to a folder on another disk" : ""});
}

/// The growing file of one blob, locked against other processes that fetch the same.
class Partial {
 public:
  Partial(const fs::path& path, const CancellationToken& cancel) : path_(path) {
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file_ < 0) disk_failure(path, errno);
    while (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      cancel.check("download");
      std::this_thread::sleep_for(kFirstWait);
    }
  }
  ~Partial() { ::close(file_); }
  Partial(const Partial&) = delete;
  Partial& operator=(const Partial&) = delete;

  int64_t size() const { return ::lseek(file_, 0, SEEK_END); }
  void restart() {
    if (::ftruncate(file_, 0) != 0) disk_failure(path_, errno);
  }
  void append(const char* data, size_t size) {
    ::lseek(file_, 0, SEEK_END);
    while (size > 0) {
      const ssize_t written = ::write(file_, data, size);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) disk_failure(path_, errno);
      data += written;
      size -= static_cast<size_t>(written);
    }
  }
  std::string sha256(const CancellationToken& cancel) const {
    Sha256 hash;
    std::vector<char> buffer(1 << 20);
    ::lseek(file_, 0, SEEK_SET);
    for (ssize_t got; (got = ::read(file_, buffer.data(), buffer.size())) != 0;) {
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) disk_failure(path_, errno);
      cancel.check("download");
      hash.update(buffer.data(), static_cast<size_t>(got));
    }
    return hash.finish();
  }

 private:
  fs::path path_;
  int file_;
};

}  // namespace

Fetcher::Fetcher(const HubSettings& settings, const HubId& id, const WorkOptions& work)
    : settings_(settings), id_(id), work_(work), repository_(settings.cache, id.repository), client_(settings.token) {}

void Fetcher::refused(const std::string& place, const HttpAnswer& answer) const {
  if (answer.status == 401 || answer.status == 403)
    throw Error(ErrorKind::kArgument,
                {.place = place,
                 .what = "the hub refuses access (" + std::to_string(answer.status) + ")",
                 .hint = settings_.token.empty()
                             ? "set HF_TOKEN if the model is private or gated, or check its name"
                             : "check that your token may read it, and that you accepted its terms on the model's page"});
  if (answer.status == 404)
    throw Error(ErrorKind::kArgument, {.place = place,
                                       .what = "the hub knows no such model, revision or file",
                                       .hint = "check the name; a local path must exist"});
  throw Error(ErrorKind::kDevice,
              {.place = place,
               .what = "the hub cannot be used (" +
                       (answer.failure.empty() ? "status " + std::to_string(answer.status) : answer.failure) + ")",
               .hint = "check the network and try again; if a local path was meant, it does not exist"});
}

Listing Fetcher::list() {
  std::string revision = id_.revision;
  for (size_t at = 0; (at = revision.find('/', at)) != std::string::npos; at += 3) revision.replace(at, 1, "%2F");
  const std::string url = settings_.endpoint + "/api/models/" + id_.repository + "/revision/" + revision + "?blobs=true";
  const std::string place = id_.repository + "@" + id_.revision;
  HttpAnswer answer;
  auto wait = kFirstWait;
  for (int attempt = 0; attempt < kTries; ++attempt, wait *= 2) {
    answer = client_.get_text(url, work_.cancel);
    if (answer.status == 200 && answer.failure.empty()) return parse_listing(answer.body, place);
    const bool passing = answer.status == 429 || answer.status >= 500 || (answer.status == 0 || !answer.failure.empty());
    if (!passing) break;
    if (attempt + 1 < kTries) std::this_thread::sleep_for(wait);
  }
  refused(place, answer);
}

void Fetcher::fetch(const Listing& listing, const std::vector<RemoteFile>& files) {
  std::vector<RemoteFile> lacking;
  for (const RemoteFile& file : files) {
    if (file.size > 0) total_ += file.size;
    if (fs::exists(repository_.blob(file.blob)))
      done_ += std::max<int64_t>(0, file.size);
    else
      lacking.push_back(file);
  }
  std::error_code failure;
  fs::create_directories(repository_.root() / "blobs", failure);
  if (failure) disk_failure(repository_.root(), failure.value());
  check_space(lacking);
  start_ = now();
  report(0);
  // Small files first: a wrong configuration shows before gigabytes have come.
  std::stable_sort(lacking.begin(), lacking.end(), [](const RemoteFile& a, const RemoteFile& b) { return a.size < b.size; });
  for (const RemoteFile& file : lacking) fetch_blob(listing, file);
  for (const RemoteFile& file : files) repository_.link(listing.commit, file.path, file.blob);
  last_report_ = 0;
  report(0);
}

void Fetcher::check_space(const std::vector<RemoteFile>& lacking) const {
  int64_t wanted = 0;
  for (const RemoteFile& file : lacking) {
    std::error_code none;
    const auto partial = fs::file_size(repository_.blob(file.blob + ".incomplete"), none);
    wanted += std::max<int64_t>(0, file.size - (none ? 0 : static_cast<int64_t>(partial)));
  }
  struct statvfs disk {};
  if (::statvfs(repository_.root().c_str(), &disk) != 0) return;
  const auto free = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  if (wanted > free)
    throw Error(ErrorKind::kDevice, {.place = settings_.cache.string(),
                                     .what = "the disk has too little space",
                                     .expected = std::to_string(wanted) + " bytes free",
                                     .got = std::to_string(free),
                                     .hint = "free some space, or set HF_HOME to a folder on another disk"});
}

void Fetcher::report(int64_t more) {
  done_ += more;
  fetched_ += std::max<int64_t>(0, more);
  const double time = now();
  if (!work_.on_progress || time - last_report_ < kReportEvery) return;
  last_report_ = time;
  const double spent = time - start_;
  const bool known = fetched_ > 0 && spent > 0.5 && total_ >= done_;
  const double left = known ? static_cast<double>(total_ - done_) * spent / static_cast<double>(fetched_) : -1;
  work_.on_progress({.stage = "download", .done = done_, .total = total_, .seconds_left = left});
}

void Fetcher::fetch_blob(const Listing& listing, const RemoteFile& file) {
  const fs::path incomplete = repository_.blob(file.blob + ".incomplete");
  std::string failure;
  auto wait = kFirstWait;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    work_.cancel.check("download");
    std::error_code none;
    const auto before = fs::file_size(incomplete, none);
    if (try_blob(listing, file, failure)) return;
    const auto after = fs::file_size(incomplete, none);
    log(LogLevel::kInfo, file.path + ": " + failure + "; trying again");
    if (after > before) {
      attempt = -1;
      wait = kFirstWait;
    }
    std::this_thread::sleep_for(wait);
    wait *= 2;
  }
  throw Error(ErrorKind::kDevice, {.place = id_.repository + ": " + file.path,
                                   .what = "the download stopped (" + failure + ")",
                                   .hint = "check the network and try again; what was fetched is kept"});
}

bool Fetcher::try_blob(const Listing& listing, const RemoteFile& file, std::string& failure) {
  const std::string place = id_.repository + ": " + file.path;
  const fs::path blob = repository_.blob(file.blob), incomplete = repository_.blob(file.blob + ".incomplete");
  Partial partial(incomplete, work_.cancel);
  if (fs::exists(blob)) return true;  // another process brought it while this one waited
  int64_t from = partial.size();
  if (file.size >= 0 && from > file.size) {
    partial.restart();
    from = 0;
  }
  int64_t counted = from;
  report(from);
  fetched_ -= from;
  if (file.size < 0 || from < file.size || from == 0) {
    const auto begin = [&](bool resumed) {
      if (resumed || from == 0) return;
      partial.restart();
      report(-from);
      counted = 0;
    };
    // The callback is called by C code, which an exception must not cross.
    std::exception_ptr disk;
    const auto write = [&](const char* data, size_t size) {
      try {
        partial.append(data, size);
      } catch (...) {
        disk = std::current_exception();
        return false;
      }
      counted += static_cast<int64_t>(size);
      report(static_cast<int64_t>(size));
      return !work_.cancel.cancelled();
    };
    const std::string url =
        settings_.endpoint + "/" + id_.repository + "/resolve/" + listing.commit + "/" + url_path(file.path);
    const HttpAnswer answer = client_.download(url, from, {begin, write}, work_.cancel);
    if (disk) std::rethrow_exception(disk);
    const bool came = answer.status == 200 || answer.status == 206;
    const bool short_of_size = file.size >= 0 && partial.size() < file.size;
    if (answer.status == 416) partial.restart();
    if (!came || !answer.failure.empty() || short_of_size) {
      report(-counted);
      const bool passing =
          came || answer.status == 0 || answer.status == 416 || answer.status == 429 || answer.status >= 500;
      if (!passing) refused(place, answer);
      failure = !answer.failure.empty() ? answer.failure
                : came                  ? std::string("the connection was cut")
                                        : "status " + std::to_string(answer.status);
      return false;
    }
  }
  const int64_t size = partial.size();
  const std::string hash = file.sha256 ? partial.sha256(work_.cancel) : file.blob;
  if ((file.size >= 0 && size != file.size) || hash != file.blob) {
    partial.restart();
    fs::remove(incomplete);
    const bool size_differs = file.size >= 0 && size != file.size;
    throw Error(ErrorKind::kWeights, {.place = place,
                                      .what = size_differs ? "came with the wrong size" : "came damaged: its sha256 differs",
                                      .expected = size_differs ? std::to_string(file.size) + " bytes" : file.blob,
                                      .got = size_differs ? std::to_string(size) : hash,
                                      .hint = "it was removed; try again"});
  }
  std::error_code renamed;
  fs::rename(incomplete, blob, renamed);
  if (renamed) disk_failure(blob, renamed.value());
  return true;
}

}  // namespace orrery::hub_detail

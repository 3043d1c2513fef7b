#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "orrery/progress.h"

namespace orrery::hub_detail {

/// What came back. `status` is 0 where no answer was got at all, and then `failure` says why.
struct HttpAnswer {
  long status = 0;
  std::string body;     ///< of get_text(), and of a refused download (its first part)
  std::string failure;  ///< of the network; also set when an answer was cut short
};

/// One host's client: keeps its connection, follows redirects, sends the token to that host alone.
class HttpClient {
 public:
  explicit HttpClient(std::string token);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpAnswer get_text(const std::string& url, const CancellationToken& cancel);

  /// Where the body of a download goes. begin(true) says that the server goes on where it was asked to, begin(false) that it
  /// starts from the first byte; write() returns false to stop.
  struct Sink {
    std::function<void(bool resumed)> begin;
    std::function<bool(const char* data, size_t size)> write;
  };
  HttpAnswer download(const std::string& url, int64_t from, const Sink& sink, const CancellationToken& cancel);

 private:
  struct Transfer;
  HttpAnswer perform(Transfer& transfer, const std::string& url);

  void* handle_;
  std::string token_;
};

/// A path as a part of a URL, slashes kept.
std::string url_path(const std::string& path);

}  // namespace orrery::hub_detail

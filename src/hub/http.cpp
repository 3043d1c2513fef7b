#include "hub/http.h"

#include <curl/curl.h>

#include <memory>

#include "orrery/error.h"

namespace orrery::hub_detail {
namespace {

constexpr size_t kMaxText = 64 << 20;  // a listing of a hundred thousand files is far smaller
constexpr size_t kMaxRefusal = 4096;   // of an error page only the beginning can matter
constexpr long kSlowBytesPerSecond = 1, kSlowSeconds = 60, kConnectSeconds = 30, kMaxRedirects = 8;

}  // namespace

struct HttpClient::Transfer {
  HttpClient* client;
  const CancellationToken& cancel;
  const Sink* sink = nullptr;
  int64_t from = 0;
  bool begun = false, stopped = false;
  HttpAnswer answer;

  static size_t on_data(char* data, size_t, size_t size, void* user) {
    auto& transfer = *static_cast<Transfer*>(user);
    long status = 0;
    curl_easy_getinfo(transfer.client->handle_, CURLINFO_RESPONSE_CODE, &status);
    const bool wanted = transfer.sink && (status == 200 || status == 206);
    if (!wanted) {
      const size_t limit = transfer.sink ? kMaxRefusal : kMaxText;
      if (transfer.answer.body.size() + size > limit) return transfer.sink ? size : 0;
      transfer.answer.body.append(data, size);
      return size;
    }
    if (!transfer.begun) transfer.sink->begin(status == 206);
    transfer.begun = true;
    if (transfer.sink->write(data, size)) return size;
    transfer.stopped = true;
    return 0;
  }

  static int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Transfer*>(user)->cancel.cancelled() ? 1 : 0;
  }
};

HttpClient::HttpClient(std::string token) : token_(std::move(token)) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  handle_ = ready == CURLE_OK ? curl_easy_init() : nullptr;
  if (!handle_) throw Error(ErrorKind::kDevice, {.place = "hub", .what = "the network library cannot be started"});
}

HttpClient::~HttpClient() {
  curl_easy_cleanup(handle_);
}

HttpAnswer HttpClient::perform(Transfer& transfer, const std::string& url) {
  CURL* curl = handle_;
  curl_easy_reset(curl);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, kMaxRedirects);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, kSlowBytesPerSecond);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kSlowSeconds);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "orrery");
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &Transfer::on_data);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &Transfer::on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
  // libcurl keeps an Authorization header from every other host that a redirect leads to.
  curl_slist* headers = nullptr;
  if (!token_.empty()) headers = curl_slist_append(headers, ("Authorization: Bearer " + token_).c_str());
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> owned(headers, curl_slist_free_all);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  if (transfer.from > 0) curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(transfer.from));

  const CURLcode code = curl_easy_perform(curl);
  transfer.cancel.check("download");
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &transfer.answer.status);
  if (code != CURLE_OK && !transfer.stopped) transfer.answer.failure = curl_easy_strerror(code);
  // libcurl calls a server that does not resume an error of its own; the caller starts over instead.
  if (code == CURLE_RANGE_ERROR) transfer.answer.status = 416;
  return std::move(transfer.answer);
}

HttpAnswer HttpClient::get_text(const std::string& url, const CancellationToken& cancel) {
  Transfer transfer{.client = this, .cancel = cancel};
  return perform(transfer, url);
}

HttpAnswer HttpClient::download(const std::string& url, int64_t from, const Sink& sink, const CancellationToken& cancel) {
  Transfer transfer{.client = this, .cancel = cancel, .sink = &sink, .from = from};
  return perform(transfer, url);
}

std::string url_path(const std::string& path) {
  std::string text;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~/").find(c) != std::string_view::npos;
    if (plain) {
      text += c;
    } else {
      constexpr char kHex[] = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      text += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return text;
}

}  // namespace orrery::hub_detail

#include "play/connection.h"

#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>
#include <deque>
#include <fstream>
#include <iterator>
#include <optional>

namespace program::play {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kMostViewers = 16;
constexpr size_t kLargestMessage = 64 << 20;  // a state or a picture
constexpr size_t kLargestText = 4096, kMostQueued = 64;
constexpr int kSendBuffer = 128 << 10;
// Messages a viewer may send: a mouse or a gamepad sends at most one a picture of the screen.
constexpr double kMessagesPerSecond = 250, kBurst = 500;
constexpr int kMostComplaints = 50;

// How many more messages a viewer may send now.
class Allowance {
 public:
  bool take() {
    const auto now = Clock::now();
    left_ = std::min(kBurst, left_ + kMessagesPerSecond * std::chrono::duration<double>(now - then_).count());
    then_ = now;
    return --left_ >= 0;
  }

 private:
  double left_ = kBurst;
  Clock::time_point then_ = Clock::now();
};

// A viewer with a world. Everything but the Viewer functions runs on the network's thread.
class Guest final : public Viewer, public std::enable_shared_from_this<Guest> {
 public:
  Guest(tcp::socket socket, House& house) : socket_(std::move(socket)), house_(house) { ++house_.viewers; }
  ~Guest() override { --house_.viewers; }

  void start(const http::request<http::string_body>& request) {
    socket_.set_option(
        websocket::stream_base::timeout{std::chrono::seconds(10), std::chrono::seconds(60), /*keep_alive_pings=*/true});
    socket_.read_message_max(kLargestMessage);
    // What the kernel holds for a slow viewer is old when it arrives: it may hold little.
    error_code ignored;
    beast::get_lowest_layer(socket_).socket().set_option(asio::socket_base::send_buffer_size(kSendBuffer), ignored);
    socket_.auto_fragment(false);
    socket_.async_accept(request, [self = shared_from_this()](error_code error) {
      if (error) return;
      if (self->house_.viewers > kMostViewers)
        return self->part("too many viewers: " + std::to_string(kMostViewers) + " are served at once");
      self->number_ = self->house_.conductor->enter(self);
      self->read();
    });
  }

  void show(std::string picture) override {
    on_network([picture = std::move(picture)](Guest& guest) mutable {
      guest.picture_ = std::move(picture);  // one that was not sent yet is dropped
      guest.write();
    });
  }
  void tell(std::string text) override {
    on_network([text = std::move(text)](Guest& guest) mutable { guest.queue({std::move(text), false}); });
  }
  void hand_over(std::string bytes) override {
    on_network([bytes = std::move(bytes)](Guest& guest) mutable { guest.queue({std::move(bytes), true}); });
  }

 private:
  struct Letter {
    std::string bytes;
    bool binary = false;
  };

  template <typename Work>
  void on_network(Work work) {
    asio::post(socket_.get_executor(), [self = shared_from_this(), work = std::move(work)]() mutable {
      if (!self->parted_) work(*self);
    });
  }

  void read() {
    socket_.async_read(buffer_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->leave();
      const bool binary = self->socket_.got_binary();
      const size_t size = self->buffer_.size();
      if (!self->allowance_.take())
        return self->part("too many messages: at most " + std::to_string(static_cast<int>(kMessagesPerSecond)) +
                          " a second");
      if (!binary && size > kLargestText)
        return self->part("a text message is at most " + std::to_string(kLargestText) + " bytes long");
      std::string message = beast::buffers_to_string(self->buffer_.data());
      self->buffer_.consume(size);
      if (!self->house_.conductor->deliver(self->number_, std::move(message), binary))
        return self->part("too many messages wait to be served");
      self->read();
    });
  }

  void queue(Letter letter) {
    if (letter.bytes.starts_with("{\"error\"") && ++complaints_ > kMostComplaints)
      return part("too many messages that make no sense");
    if (letters_.size() >= kMostQueued) return part("answers are not taken");
    letters_.push_back(std::move(letter));
    write();
  }

  // One write at a time: answers first, in order, then the newest picture.
  void write() {
    if (writing_ || parted_) return;
    if (!letters_.empty()) {
      out_ = std::move(letters_.front());
      letters_.pop_front();
    } else if (picture_) {
      out_ = {std::move(*picture_), true};
      picture_.reset();
    } else {
      return;
    }
    writing_ = true;
    socket_.binary(out_.binary);
    socket_.async_write(asio::buffer(out_.bytes), [self = shared_from_this()](error_code error, size_t) {
      self->writing_ = false;
      if (error) return self->leave();
      if (self->goodbye_) return self->close();
      self->write();
    });
  }

  void leave() {
    if (number_ != 0) house_.conductor->leave(number_);
    number_ = 0;
    parted_ = true;
  }

  // Says why, and ends the connection: a close frame after what is being written.
  void part(const std::string& why) {
    if (parted_) return;
    leave();
    goodbye_ = why;
    if (!writing_) close();
  }

  void close() {
    socket_.async_close({websocket::close_code::policy_error, goodbye_->substr(0, 120)},
                        [self = shared_from_this()](error_code) {});
  }

  websocket::stream<beast::tcp_stream> socket_;
  House& house_;
  beast::flat_buffer buffer_;
  Allowance allowance_;
  int64_t number_ = 0;
  std::deque<Letter> letters_;
  std::optional<std::string> picture_, goodbye_;
  Letter out_;
  bool writing_ = false, parted_ = false;
  int complaints_ = 0;
};

// Requests over plain HTTP, one after the other.
class Visit : public std::enable_shared_from_this<Visit> {
 public:
  Visit(tcp::socket socket, House& house) : stream_(std::move(socket)), house_(house) {}

  void read() {
    parser_.emplace();
    parser_->body_limit(1 << 16);
    stream_.expires_after(std::chrono::seconds(30));
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
      if (!error) self->answer(self->parser_->release());
    });
  }

 private:
  using Request = http::request<http::string_body>;
  using Response = http::response<http::string_body>;

  void answer(const Request& request) {
    const std::string target(request.target().data(), request.target().size());
    const std::string path = target.substr(0, target.find('?'));
    if (!is_ours(request))
      return send(request, http::status::forbidden, "text/plain", "This server answers to its own address only.\n");
    if (!house_.token.empty() && target.find("token=" + house_.token) == std::string::npos)
      return send(request, http::status::forbidden, "text/plain", "The address needs the token that orrery play printed.\n");
    if (path == "/world" && websocket::is_upgrade(request)) {
      stream_.expires_never();
      return std::make_shared<Guest>(stream_.release_socket(), house_)->start(request);
    }
    if (request.method() != http::verb::get)
      return send(request, http::status::method_not_allowed, "text/plain", "GET only.\n");
    if (path == "/") return send(request, http::status::ok, "text/html; charset=utf-8", std::string(kPage, kPageSize));
    if (path == "/world.json") return send(request, http::status::ok, "application/json", house_.about);
    if (path.starts_with("/recordings/") && path.find_first_not_of("0123456789-mp.", 12) == std::string::npos) {
      std::ifstream file(house_.folder / path.substr(12), std::ios::binary);
      if (file.is_open()) return send(request, http::status::ok, "video/mp4", {std::istreambuf_iterator<char>(file), {}});
    }
    send(request, http::status::not_found, "text/plain", "There is no such page.\n");
  }

  // Another site's page may not drive a world: its requests bear its own origin, or its own host name.
  bool is_ours(const Request& request) const {
    const std::string host(request[http::field::host]), origin(request[http::field::origin]);
    if (!origin.empty() && origin != "http://" + host) return false;
    if (!house_.loopback) return true;
    const std::string name = host.substr(0, host.rfind(':'));
    if (name == "localhost" || name == "[::1]") return true;
    error_code none;  // a name such as 127.evil.example is no address, and may lead anywhere
    const auto address = asio::ip::make_address_v4(name, none);
    return !none && address.is_loopback();
  }

  void send(const Request& request, http::status status, const char* type, std::string body) {
    auto response = std::make_shared<Response>(status, request.version());
    response->set(http::field::content_type, type);
    response->set(http::field::cache_control, "no-store");
    response->set(http::field::x_frame_options, "DENY");
    response->keep_alive(request.keep_alive());
    response->body() = std::move(body);
    response->prepare_payload();
    http::async_write(stream_, *response, [self = shared_from_this(), response](error_code error, size_t) {
      if (error) return;
      if (response->keep_alive()) return self->read();
      error_code ignored;
      self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    });
  }

  beast::tcp_stream stream_;
  House& house_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
};

}  // namespace

void start_connection(tcp::socket socket, House& house) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  std::make_shared<Visit>(std::move(socket), house)->read();
}

}  // namespace program::play

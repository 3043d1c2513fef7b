#include "play/server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>

#include "orrery/error.h"
#include "play/connection.h"

namespace program::play {

namespace asio = boost::asio;
using asio::ip::tcp;

Place parse_place(const std::string& text) {
  const size_t colon = text.rfind(':');
  Place place;
  if (colon != std::string::npos && colon + 1 < text.size() && text.size() - colon <= 6 &&
      text.find_first_not_of("0123456789", colon + 1) == std::string::npos) {
    const int port = std::stoi(text.substr(colon + 1));
    place.host = text.substr(0, colon);
    if (place.host.starts_with('[') && place.host.ends_with(']')) place.host = place.host.substr(1, place.host.size() - 2);
    if (place.host == "localhost") place.host = "127.0.0.1";
    boost::system::error_code bad;
    asio::ip::make_address(place.host, bad);
    if (!bad && port <= 65535) {
      place.port = static_cast<uint16_t>(port);
      return place;
    }
  }
  throw orrery::Error(orrery::ErrorKind::kArgument, {.place = "--listen",
                                                     .what = "is no address",
                                                     .expected = "an IP address and a port, as 127.0.0.1:8080",
                                                     .got = "'" + text + "'"});
}

namespace {

std::string random_token() {
  std::random_device source;
  std::ostringstream token;
  for (int i = 0; i < 4; ++i) {
    char word[9];
    std::snprintf(word, sizeof word, "%08x", source());
    token << word;
  }
  return token.str();
}

}  // namespace

struct Server::Impl {
  Impl(const Place& place, const Setting& setting, std::string about) : conductor(setting), acceptor(io), timer(io) {
    house.about = std::move(about);
    house.folder = setting.folder;
    house.conductor = &conductor;
    const auto address = asio::ip::make_address(place.host);
    boost::system::error_code error;
    const tcp::endpoint endpoint(address, place.port);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      throw orrery::Error(orrery::ErrorKind::kDevice, {.place = "--listen " + place.host + ":" + std::to_string(place.port),
                                                       .what = "cannot be listened on: " + error.message(),
                                                       .hint = "choose another port, or 0 for any that is free"});
    house.loopback = address.is_loopback();
    if (!house.loopback) house.token = random_token();
  }

  void accept() {
    acceptor.async_accept([this](boost::system::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) start_connection(std::move(socket), house);
      accept();
    });
  }

  void watch(const std::function<bool()>& over) {
    timer.expires_after(std::chrono::milliseconds(100));
    timer.async_wait([this, &over](boost::system::error_code error) {
      if (error) return;
      if (over()) return io.stop();
      watch(over);
    });
  }

  // Destroyed from the last to the first: the worlds, then what the network still holds of their viewers, then the house.
  House house;
  asio::io_context io{1};
  Conductor conductor;
  tcp::acceptor acceptor;
  asio::steady_timer timer;
};

Server::Server(const Place& place, Setting setting, std::string about)
    : impl_(std::make_unique<Impl>(place, std::move(setting), std::move(about))) {}
Server::~Server() = default;

std::string Server::url() const {
  const tcp::endpoint endpoint = impl_->acceptor.local_endpoint();
  const auto address = endpoint.address();
  const std::string host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
  return "http://" + host + ":" + std::to_string(endpoint.port()) + "/" +
         (impl_->house.token.empty() ? "" : "?token=" + impl_->house.token);
}

void Server::run(const std::function<bool()>& over) {
  impl_->accept();
  impl_->watch(over);
  impl_->io.run();
}

}  // namespace program::play

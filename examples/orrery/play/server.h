// HTTP and WebSocket for `orrery play`, with Boost.Beast: the page, and one world for each that opens it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "play/session.h"

namespace program::play {

/// Where to listen: "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:0".
struct Place {
  std::string host;
  uint16_t port = 0;
};
/// Throws Error(kArgument) for what is no address and port.
Place parse_place(const std::string& text);

class Server {
 public:
  /// Binds. `about` is what the page asks for first (world.json). Throws Error(kDevice) where the port is in use or the
  /// address is not ours.
  Server(const Place& place, Setting setting, std::string about);
  ~Server();

  /// What to open in a browser. Elsewhere than on this machine's loopback it holds a token, without which nothing is served.
  std::string url() const;
  /// Serves until `over` says so; it is asked a few times a second.
  void run(const std::function<bool()>& over);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace program::play

// One browser's connection: plain HTTP for the page and recordings, or a WebSocket for a world.
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <filesystem>
#include <string>

#include "play/conductor.h"

namespace program::play {

/// What connections share; used by the network's thread only, but for the conductor.
struct House {
  std::string about;             ///< world.json
  std::filesystem::path folder;  ///< of recordings
  std::string token;             ///< that a request must bear; empty: none
  bool loopback = true;          ///< then a request must name a loopback host (a page elsewhere may point its name here)
  Conductor* conductor = nullptr;
  std::atomic<int> viewers = 0;
};

void start_connection(boost::asio::ip::tcp::socket socket, House& house);

/// The page, one HTML file.
extern const char kPage[];
extern const unsigned long kPageSize;

}  // namespace program::play

#include "orrery/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/dist_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "orrery/error.h"

namespace orrery {
namespace {

constexpr std::array<std::string_view, 6> kLevelNames = {"trace", "debug", "info", "warning", "error", "off"};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  constexpr std::array levels = {spdlog::level::trace, spdlog::level::debug, spdlog::level::info,
                                 spdlog::level::warn,  spdlog::level::err,   spdlog::level::off};
  return levels[static_cast<size_t>(level)];
}

LogLevel from_spdlog(spdlog::level::level_enum level) {
  if (level >= spdlog::level::off) return LogLevel::kOff;
  return static_cast<LogLevel>(std::min<int>(level, static_cast<int>(LogLevel::kError)));
}

// Hands each message to the function that the host program gave.
class FunctionSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FunctionSink(LogSink sink) : sink_(std::move(sink)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    sink_(from_spdlog(message.level), std::string_view(message.payload.data(), message.payload.size()));
  }
  void flush_() override {}

 private:
  LogSink sink_;
};

spdlog::sink_ptr stderr_sink() {
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  sink->set_pattern("[%n] %^%l%$: %v");
  return sink;
}

// The one sink of the logger: it holds the sink in use, which may be replaced while other threads speak.
spdlog::sinks::dist_sink_mt& place() {
  static auto* sink = new spdlog::sinks::dist_sink_mt(std::vector{stderr_sink()});
  return *sink;
}

// An own logger object, not registered with spdlog, so a host program's loggers are never touched.
spdlog::logger& logger() {
  static spdlog::logger* instance = [] {
    auto made = new spdlog::logger("orrery", spdlog::sink_ptr(&place(), [](auto*) {}));
    LogLevel level = LogLevel::kWarning;
    if (const char* name = std::getenv("ORRERY_LOG")) {
      try {
        level = parse_log_level(name);
      } catch (const Error& error) {
        made->warn("ORRERY_LOG is ignored: {}", error.what());
      }
    }
    made->set_level(to_spdlog(level));
    return made;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }

LogLevel log_level() { return from_spdlog(logger().level()); }

LogLevel parse_log_level(std::string_view name) {
  for (size_t i = 0; i < kLevelNames.size(); ++i)
    if (kLevelNames[i] == name) return static_cast<LogLevel>(i);
  throw Error(ErrorKind::kArgument, {.place = "log level",
                                     .what = "is not known",
                                     .expected = "one of trace, debug, info, warning, error, off",
                                     .got = "'" + std::string(name) + "'"});
}

void set_log_sink(LogSink sink) {
  place().set_sinks({sink ? std::make_shared<FunctionSink>(std::move(sink)) : stderr_sink()});
}

void log(LogLevel level, std::string_view message) {
  logger().log(to_spdlog(level), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace orrery

#pragma once

#include <functional>
#include <string_view>

#include "orrery/export.h"

namespace orrery {

/// How much the library says. The start value comes from the environment variable ORRERY_LOG
/// (trace, debug, info, warning, error, off); without it, kWarning.
enum class LogLevel { kTrace, kDebug, kInfo, kWarning, kError, kOff };

/// Receives one message without a trailing newline; may be called from several threads, one at a time.
using LogSink = std::function<void(LogLevel level, std::string_view message)>;

/// Sets how much is said from now on.
ORRERY_API void set_log_level(LogLevel level);
/// The level in force.
ORRERY_API LogLevel log_level();
/// Parses a level's name; throws Error(kArgument) naming the known ones.
ORRERY_API LogLevel parse_log_level(std::string_view name);
/// Sends messages to `sink` instead of stderr; an empty function restores stderr.
ORRERY_API void set_log_sink(LogSink sink);
/// Writes one message through the library's own logger (never the host's default logger).
ORRERY_API void log(LogLevel level, std::string_view message);

}  // namespace orrery

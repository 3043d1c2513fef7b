#include "guarded.h"

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <regex>
#include <string_view>

namespace orrery {
namespace {

constexpr const char* kOutOfMemory = "out of memory";

[[noreturn]] void out_of_memory(const std::string& place, const std::string& amount) {
  throw Error(ErrorKind::kDevice, {.place = place,
                                   .what = kOutOfMemory,
                                   .expected = amount.empty() ? "" : amount + " more",
                                   .hint = "use fewer frames at a time (--chunk), a smaller size or tiles (--tile)"});
}

// LibTorch's allocators throw their general error type; only the words tell.
std::string amount_asked_for(const std::string& message) {
  static const std::regex kBytes(R"((?:tried to allocate|allocate) ([0-9.]+ ?[A-Za-z]+))");
  std::smatch found;
  return std::regex_search(message, found, kBytes) ? found[1].str() : "";
}

bool tells_of_memory(std::string_view message) {
  for (const char* words : {"can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory"})
    if (message.find(words) != std::string_view::npos) return true;
  return false;
}

}  // namespace

bool is_out_of_memory(const Error& error) {
  return error.kind() == ErrorKind::kDevice && error.detail().what == kOutOfMemory;
}

void rethrow_as_error(const std::string& place) {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    out_of_memory(place, "");
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    if (tells_of_memory(message)) out_of_memory(place, amount_asked_for(message));
    if (message.starts_with("CUDA error"))  // a kernel's fault, which shows at the next look at the device
      throw Error(ErrorKind::kDevice,
                  {.place = place,
                   .what = message.substr(0, message.find('\n')),
                   .hint = "CUDA_LAUNCH_BLOCKING=1 names the kernel; this process can go on with the device cpu only"});
    throw Error(ErrorKind::kUnsupported,
                {.place = place, .what = "LibTorch cannot do this (" + message.substr(0, message.find('\n')) + ")"});
  } catch (const std::exception& error) {
    const std::string message = error.what();
    if (tells_of_memory(message)) out_of_memory(place, amount_asked_for(message));
    throw Error(ErrorKind::kUnsupported, {.place = place, .what = message.substr(0, message.find('\n'))});
  }
}

}  // namespace orrery

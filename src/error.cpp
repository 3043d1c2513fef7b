#include "orrery/error.h"

namespace orrery {
namespace {

std::string compose(ErrorKind kind, const ErrorDetail& detail) {
  std::string text = std::string(to_string(kind)) + ": ";
  if (!detail.place.empty()) text += detail.place + ": ";
  text += detail.what;
  if (!detail.expected.empty()) text += "; expected " + detail.expected;
  if (!detail.got.empty()) text += (detail.expected.empty() ? "; got " : ", got ") + detail.got;
  if (!detail.hint.empty()) text += "; " + detail.hint;
  return text;
}

}  // namespace

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kArgument: return "argument";
    case ErrorKind::kConfig: return "config";
    case ErrorKind::kWeights: return "weights";
    case ErrorKind::kMedia: return "media";
    case ErrorKind::kDevice: return "device";
    case ErrorKind::kUnsupported: return "unsupported";
    case ErrorKind::kCancelled: return "cancelled";
  }
  return "unknown";
}

Error::Error(ErrorKind kind, ErrorDetail detail)
    : std::runtime_error(compose(kind, detail)), kind_(kind), detail_(std::move(detail)) {}

}  // namespace orrery

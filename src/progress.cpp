#include "orrery/progress.h"

#include <string>

#include "orrery/error.h"

namespace orrery {

void CancellationToken::check(std::string_view stage) const {
  if (cancelled())
    throw Error(ErrorKind::kCancelled, {.place = std::string(stage), .what = "stopped because it was asked to"});
}

}  // namespace orrery

#include "support/paths.h"

namespace orrery::testing {

std::filesystem::path source_root() { return ORRERY_ROOT; }

std::filesystem::path golden_folder() { return source_root() / "tests/golden"; }

std::filesystem::path program_path() { return std::filesystem::path(ORRERY_BIN) / "orrery"; }

}  // namespace orrery::testing

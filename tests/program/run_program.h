#pragma once

#include <string>
#include <vector>

namespace orrery::testing {

/// How a run of the orrery program ended.
struct Ended {
  int code = 0;          ///< exit code; 128 + signal where one ended it
  std::string out, err;  ///< what it wrote
};

/// Runs build/bin/orrery with these arguments and waits for its end. `shell` stands before it in the same shell, e.g.
/// "ulimit -f 1;".
Ended run_program(const std::vector<std::string>& arguments, const std::string& shell = "");

/// The same on a terminal of its own, as a person sees it: all that it wrote there is `out`.
Ended run_on_terminal(const std::vector<std::string>& arguments);

}  // namespace orrery::testing

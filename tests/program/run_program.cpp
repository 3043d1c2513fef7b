#include "program/run_program.h"

#include <sys/wait.h>

#include <cstdlib>

#include "support/paths.h"
#include "support/temporary.h"

namespace orrery::testing {
namespace {

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

}  // namespace

Ended run_program(const std::vector<std::string>& arguments, const std::string& shell) {
  const TemporaryFolder folder;
  const auto out = folder / "out", err = folder / "err";
  std::string command = shell + " " + quoted(program_path().string());
  for (const std::string& argument : arguments) command += " " + quoted(argument);
  // The words of the tests must not depend on the caller's log level.
  const int status =
      std::system(("unset ORRERY_LOG; " + command + " >" + quoted(out.string()) + " 2>" + quoted(err.string())).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
}

}  // namespace orrery::testing

#include "program/run_program.h"

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

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

Ended run_on_terminal(const std::vector<std::string>& arguments) {
  const std::string program = program_path().string();
  std::vector<char*> line = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) line.push_back(const_cast<char*>(argument.c_str()));
  line.push_back(nullptr);
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child < 0) return {.code = -1, .out = {}, .err = "no terminal can be had"};
  if (child == 0) {
    unsetenv("ORRERY_LOG");
    execv(line.front(), line.data());
    _exit(127);
  }
  Ended ended;
  char part[4096];
  for (ssize_t count; (count = read(terminal, part, sizeof part)) > 0;) ended.out.append(part, count);  // fails at the end
  close(terminal);
  int status = 0;
  waitpid(child, &status, 0);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ended;
}

}  // namespace orrery::testing

// The orrery command-line program. Exit codes: 0 done, 1 the work failed, 2 the command line is wrong.
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "orrery/error.h"
#include "orrery/log.h"
#include "orrery/tensor_memory.h"
#include "program.h"

namespace {

// One line, whatever the message holds: LibTorch's own exceptions bring a stack trace.
int fail(const std::string& message) {
  std::fprintf(stderr, "error: %s\n", message.substr(0, message.find('\n')).c_str());
  return 1;
}

// The usage of the subcommand that was meant, or of the whole program.
std::string usage(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app.help() : chosen.front()->help(app.get_name());
}

}  // namespace

int main(int argc, char** argv) {
  orrery::keep_tensor_pages();
  orrery::log_level();  // reads ORRERY_LOG, and says so when it is none, before anything else is told
  CLI::App app("orrery runs learned worlds: it encodes videos, imagines what happens next, and decodes them.", "orrery");
  app.set_version_flag("--version", "orrery " ORRERY_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.option_defaults()->multi_option_policy(
      CLI::MultiOptionPolicy::TakeLast);  // a script may append what it wants otherwise
  app.add_option_function<std::string>(
         "--log-level", [](const std::string& level) { orrery::set_log_level(orrery::parse_log_level(level)); },
         "How much is told on stderr: trace, debug, info, warning, error, off (also ORRERY_LOG)")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "off"}));
  program::add_inspect(app);
  program::add_encode(app);
  program::add_decode(app);
  program::add_reconstruct(app);
  program::add_generate(app);
  program::add_rollout(app);
  program::add_play(app);
  program::add_eval(app);
  program::add_bench(app);
  program::add_pull(app);

  program::watch_for_interrupt();
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& request) {  // --help and --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "error: argument: %s\n%s", error.what(), usage(app).c_str());
    return 2;
  } catch (const orrery::Error& error) {
    return fail(error.what());
  } catch (const std::bad_alloc&) {
    return fail("device: out of memory; close other programs, or allow this one more (ulimit -v)");
  } catch (const std::exception& error) {
    return fail(std::string("device: ") + error.what());
  }
}

// The orrery command-line program. Exit codes: 0 done, 1 the work failed, 2 the command line is wrong.
#include <malloc.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "orrery/error.h"
#include "orrery/log.h"
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
#ifdef M_MMAP_THRESHOLD
  // What tensors held goes back to the system at once. Left alone, glibc raises this limit with every large tensor that is
  // freed, and keeps them as holes in its heap (9 frames of 256x256 decoded by the Wan 2.1 VAE: 1683 MiB at the peak instead
  // of 1325).
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
#endif
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
    return fail("device: out of memory");
  } catch (const std::exception& error) {
    return fail(std::string("device: ") + error.what());
  }
}

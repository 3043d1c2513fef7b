// What the subcommands share: options, progress, interruption, and files that appear only when they are complete.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "orrery/load.h"
#include "orrery/progress.h"

namespace program {

/// Where a model lies and how it runs; the same options in every subcommand that loads one.
struct ModelOptions {
  std::string path;
  std::string device = "cpu";
  std::string dtype = "float32";
  std::string weights = "stored";
  std::string attention = "exact";
  bool exact = false;  ///< nothing lossy, whatever else is asked for
  int threads = 0;
  std::vector<std::string> loras;

  void add_to(CLI::App& command);
  /// --lora, for the subcommands that run a denoising network.
  void add_loras_to(CLI::App& command);
  /// Sets the number of threads and gives what the library wants to know.
  orrery::LoadOptions load() const;
};

/// --weights, and what it means.
void add_weight_form_to(CLI::App& command, std::string& weights);
orrery::WeightForm parse_weight_form(const std::string& weights);

/// A bar with an estimate on stderr where that is a terminal, and a token that Ctrl-C raises.
orrery::WorkOptions work();

/// From now on the first Ctrl-C raises the token of work(), the second ends the program.
/// Must be called before the first thread starts.
void watch_for_interrupt();
/// Throws Error(kCancelled) after a Ctrl-C: called before a result is written.
void check_interrupt();

/// What CLI11's own checks of numbers do, with a message that can be read.
CLI::Validator above_zero();
CLI::Validator not_negative();

/// Throws Error(kArgument) when nothing can be written at `path`, before long work is done for it.
void require_writable(const std::filesystem::path& path);
/// The same for what is one file, never a folder.
void require_writable_file(const std::filesystem::path& path);

/// "12.3 MiB".
std::string human_bytes(int64_t bytes);

/// Seconds since the clock was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// One function a file: each adds its subcommand, which runs when the command line is parsed.
void add_bench(CLI::App& app);
void add_decode(CLI::App& app);
void add_encode(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_play(CLI::App& app);
void add_pull(CLI::App& app);
void add_reconstruct(CLI::App& app);
void add_rollout(CLI::App& app);

}  // namespace program

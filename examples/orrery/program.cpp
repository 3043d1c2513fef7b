#include "program.h"

#include <ATen/Parallel.h>
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <system_error>
#include <thread>

#include "orrery/error.h"

namespace program {
namespace {

namespace fs = std::filesystem;
using orrery::Error;
using orrery::ErrorKind;

const std::map<std::string, at::ScalarType> kDtypes = {
    {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}};

const std::map<std::string, orrery::WeightForm> kWeightForms = {{"stored", orrery::WeightForm::kStored},
                                                                {"float32", orrery::WeightForm::kFloat32},
                                                                {"bfloat16", orrery::WeightForm::kBFloat16},
                                                                {"int8", orrery::WeightForm::kInt8},
                                                                {"fp8", orrery::WeightForm::kFloat8}};

const std::map<std::string, orrery::AttentionForm> kAttentionForms = {{"exact", orrery::AttentionForm::kExact},
                                                                      {"int8", orrery::AttentionForm::kInt8}};

orrery::CancellationToken& interrupt() {
  static orrery::CancellationToken token;
  return token;
}

// "encode  [##########          ] 12/25  0:31 left", drawn over itself.
void draw(const orrery::Progress& progress) {
  constexpr int kWidth = 30;
  std::string line = "\r\033[K" + std::string(progress.stage) + "  ";
  if (progress.total > 0) {
    const int filled = static_cast<int>(kWidth * progress.done / progress.total);
    line += "[" + std::string(filled, '#') + std::string(kWidth - filled, ' ') + "] ";
  }
  line += std::to_string(progress.done) + (progress.total > 0 ? "/" + std::to_string(progress.total) : "");
  if (progress.stage == "tokens" && progress.seconds_left > 0) {
    char rate[32];
    std::snprintf(rate, sizeof rate, "  %.1f tokens/s",
                  static_cast<double>(progress.total - progress.done) / progress.seconds_left);
    line += rate;
  }
  if (progress.seconds_left >= 0) {
    char left[32];
    const int seconds = static_cast<int>(progress.seconds_left + 0.5);
    std::snprintf(left, sizeof left, "  %d:%02d left", seconds / 60, seconds % 60);
    line += left;
  }
  if (progress.total > 0 && progress.done >= progress.total) line = "\r\033[K";  // the result speaks for itself
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

// The number that `text` is, or NaN.
double number_in(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  return end != text.c_str() && *end == '\0' ? number : std::nan("");
}

// "transformer_2=style.safetensors:0.8"
orrery::LoraFile parse_lora(std::string text) {
  orrery::LoraFile lora;
  if (const size_t equals = text.find('='); equals != std::string::npos && text.starts_with("transformer")) {
    lora.component = text.substr(0, equals);
    text.erase(0, equals + 1);
  }
  const size_t colon = text.rfind(':');
  if (colon != std::string::npos && colon + 1 < text.size()) {
    char* end = nullptr;
    const double scale = std::strtod(text.c_str() + colon + 1, &end);
    if (*end == '\0' && std::isfinite(scale)) {
      lora.scale = scale;
      text.erase(colon);
    }
  }
  lora.path = text;
  return lora;
}

}  // namespace

void ModelOptions::add_to(CLI::App& command) {
  command
      .add_option("--model", path,
                  "Pipeline or component folder, checkpoint file, or hub id org/name[@revision][:subfolder]")
      ->required();
  command.add_option("--device", device, "cpu or cuda[:N]")
      ->check([](const std::string& name) {
        const bool known = name == "cpu" || name == "cuda" ||
                           (name.starts_with("cuda:") && name.size() <= 8 && name.size() > 5 &&
                            name.find_first_not_of("0123456789", 5) == std::string::npos);
        return known ? std::string() : "'" + name + "' is no device; expected cpu or cuda[:N]";
      })
      ->capture_default_str();
  command.add_option("--dtype", dtype, "Precision of the arithmetic: float32, bfloat16 or float16")
      ->check(CLI::IsMember(kDtypes))
      ->capture_default_str();
  add_weight_form_to(command, weights);
  command
      .add_option("--attention", attention,
                  "Self-attention of a diffusion transformer: exact, or int8 (queries and keys of 8 bits; lossy, for GPUs)")
      ->check(CLI::IsMember(kAttentionForms))
      ->capture_default_str();
  command.add_flag("--exact", exact,
                   "Nothing lossy, whatever else is asked for: int8, fp8 and bfloat16 weights, int8 attention and the step "
                   "cache are left out");
  command.add_option("--threads", threads, "CPU threads; as many as there are cores if not given")->check(above_zero());
}

void add_weight_form_to(CLI::App& command, std::string& weights) {
  command
      .add_option("--weights", weights,
                  "Form of a network's matrices in memory: stored, float32, bfloat16, int8 (made at load; lossy, fast) or "
                  "fp8 (likewise)")
      ->check(CLI::IsMember(kWeightForms))
      ->capture_default_str();
}
orrery::WeightForm parse_weight_form(const std::string& weights) {
  return kWeightForms.at(weights);
}

void ModelOptions::add_loras_to(CLI::App& command) {
  command
      .add_option("--lora", loras,
                  "[COMPONENT=]FILE[:scale], merged into the weights (repeatable; COMPONENT: transformer_2, …)")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

orrery::LoadOptions ModelOptions::load() const {
  if (threads > 0) at::set_num_threads(threads);
  orrery::WeightForm form = parse_weight_form(weights);
  if (exact && form != orrery::WeightForm::kStored && form != orrery::WeightForm::kFloat32) {
    std::fprintf(stderr, "--exact: weights stay as they are stored, not %s\n", weights.c_str());
    form = orrery::WeightForm::kStored;
  }
  orrery::AttentionForm looking = kAttentionForms.at(attention);
  if (exact && looking != orrery::AttentionForm::kExact) {
    std::fprintf(stderr, "--exact: attention stays exact, not %s\n", attention.c_str());
    looking = orrery::AttentionForm::kExact;
  }
  orrery::LoadOptions options{.device = at::Device(device), .dtype = kDtypes.at(dtype), .work = work()};
  options.weights = form;
  options.attention = looking;
  for (const std::string& lora : loras) options.loras.push_back(parse_lora(lora));
  return options;
}

orrery::WorkOptions work() {
  orrery::WorkOptions options{.cancel = interrupt()};
  if (isatty(STDERR_FILENO)) options.on_progress = draw;
  return options;
}

void watch_for_interrupt() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  if (pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) return;
  try {
    std::thread([signals] {
      int number = 0;
      sigwait(&signals, &number);
      std::fputs("\ninterrupted: stopping (once more to stop at once)\n", stderr);
      interrupt().cancel();
      sigwait(&signals, &number);
      _exit(130);
    }).detach();
  } catch (const std::system_error&) {  // no room for a thread: an interrupt ends the program at once
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  }
}

void check_interrupt() {
  interrupt().check("orrery");
}

CLI::Validator above_zero() {
  const auto check = [](const std::string& text) {
    return number_in(text) > 0 ? "" : "expected a number above 0, got " + text;
  };
  return CLI::Validator(check, "POSITIVE");
}

CLI::Validator not_negative() {
  const auto check = [](const std::string& text) { return number_in(text) >= 0 ? "" : "expected 0 or more, got " + text; };
  return CLI::Validator(check, "NONNEGATIVE");
}

void require_writable_file(const fs::path& path) {
  require_writable(path);
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    throw Error(ErrorKind::kArgument,
                {.place = path.string(), .what = "is a folder", .expected = "the name of a file to write"});
}

void require_writable(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    throw Error(ErrorKind::kArgument, {.place = path.string(),
                                       .what = "cannot be written: its folder does not exist",
                                       .hint = "make " + folder.string() + " first"});
  if (access(folder.c_str(), W_OK) != 0)
    throw Error(ErrorKind::kArgument, {.place = path.string(),
                                       .what = "cannot be written: no permission in its folder",
                                       .hint = "write to a folder of yours"});
}

std::string human_bytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

}  // namespace program

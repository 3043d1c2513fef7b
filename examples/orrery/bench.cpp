// orrery bench: times a component on this machine.
#include <ATen/Parallel.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "flops.h"
#include "orrery/denoiser.h"
#include "orrery/error.h"
#include "orrery/token_dynamics.h"
#include "orrery/tokenizer.h"
#include "orrery/weights.h"
#include "program.h"

namespace program {
namespace {

struct Options {
  ModelOptions model;
  std::string call;
  std::filesystem::path inputs;
  int64_t num_frames = 9, width = 256, height = 256;  // of the clip a tokenizer gets when no inputs are given
  int64_t new_tokens = 64;                            // of dynamics.decode
  int warmup = 1, repeat = 5;
  orrery::CallOptions how;
  bool json = false;
};

struct Stage {
  std::string name;
  std::vector<double> seconds;
  double flops = 0;
  double processor_seconds = 0;  // of one run, all threads together: other work on the machine does not lengthen it

  double median() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    const size_t half = sorted.size() / 2;
    return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }
  double min() const { return *std::min_element(seconds.begin(), seconds.end()); }
  double max() const { return *std::max_element(seconds.begin(), seconds.end()); }
};

struct Call {
  std::string component, function;
  orrery::TensorMap inputs;

  std::string name() const { return component + "." + function; }
};

// What a stage repeats.
struct Work {
  std::string name;
  std::function<void()> run;
};

// Since this process was started, its loader and libraries included.
double seconds_since_start() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(std::min(text.rfind(')') + 2, text.size())));  // the name before may hold spaces
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;  // the 22nd is the start, in clock ticks since boot
  timespec now{};
  if (!fields || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 -
         std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

// A GPU has done its work when it says so, not when it was told to.
void finish(at::Device device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.has_index() ? device.index() : c10::DeviceIndex{0});
}

Call call_from(const std::string& name, const std::filesystem::path& inputs, at::Device device) {
  Call call{name.substr(0, name.find('.')), name.substr(name.find('.') + 1), {}};
  if (!inputs.empty()) call.inputs = orrery::load_safetensors(inputs);
  for (auto& [key, tensor] : call.inputs) tensor = tensor.to(device);
  return call;
}

// Both ways of a tokenizer on a clip of noise, where the user names no call.
std::vector<Call> tokenizer_calls(const orrery::Component& component, const Options& options, at::Device device) {
  const auto* tokenizer = dynamic_cast<const orrery::Autoencoder*>(&component);
  if (!tokenizer) throw CLI::RequiredError("--call");
  const orrery::CodecSpec& spec = tokenizer->spec();
  spec.check_size(options.height, options.width);
  const int64_t h = options.height / spec.spatial_stride, w = options.width / spec.spatial_stride;
  const int64_t t = spec.latent_frames(options.num_frames);
  std::vector<Call> calls;
  if (tokenizer->has_encoder())
    calls.push_back(
        {"vae",
         "encode",
         {{"sample", at::rand({1, 3, options.num_frames, options.height, options.width}, device).mul_(2).sub_(1)}}});
  if (tokenizer->has_decoder() && spec.discrete())
    calls.push_back({"vae", "decode", {{"indices", at::randint(spec.vocabulary, {1, t, h, w}, at::kInt).to(device)}}});
  else if (tokenizer->has_decoder())
    calls.push_back({"vae", "decode", {{"latent", at::randn({1, spec.latent_channels, t, h, w}, device)}}});
  return calls;
}

// Runs `run` again and again; it says how many seconds of it count.
Stage timed(const std::string& name, const Options& options, const std::function<double()>& run) {
  Stage stage{name, {}};
  const orrery::WorkOptions work = program::work();
  double processor_start = 0;
  for (int i = 0; i < options.warmup + options.repeat; ++i) {
    check_interrupt();
    if (i == options.warmup) processor_start = processor_seconds();
    const double seconds = run();
    if (i < options.warmup) continue;
    stage.seconds.push_back(seconds);
    const int left = options.warmup + options.repeat - i - 1;
    if (work.on_progress) work.on_progress({stage.name, options.repeat - left, options.repeat, stage.median() * left});
  }
  stage.processor_seconds = (processor_seconds() - processor_start) / options.repeat;
  return stage;
}

// A generation prepares its prompt once and looks at the noisy sample at every step, so the two are timed apart. Nothing
// where the inputs say more than a prompt and a sample.
std::vector<Work> looks(const Call& call, const std::shared_ptr<const orrery::Component>& component) {
  const auto denoiser = std::dynamic_pointer_cast<const orrery::Denoiser>(component);
  orrery::TensorMap rest = call.inputs;
  const auto take = [&](const std::string& name) {
    const auto found = rest.extract(name);
    return found.empty() ? at::Tensor() : found.mapped().to(at::kFloat);
  };
  const at::Tensor sample = take("hidden_states"), times = take("timestep");
  const orrery::Conditions conditions{.text = take("encoder_hidden_states")};
  const at::Tensor padding = take("padding_mask");
  const bool whole = padding.defined() && padding.any().item<bool>();
  if (!denoiser || call.name() != "transformer.forward" || whole || !rest.empty() || !sample.defined() || !times.defined() ||
      times.dim() > 1 || !conditions.text.defined())
    return {};
  const auto context = std::make_shared<std::unique_ptr<orrery::Denoiser::Context>>();
  const auto prepare = [=] { *context = denoiser->prepare(conditions, sample.sizes()); };
  orrery::Latents noisy;
  noisy.video = sample;
  return {{"transformer.prepare", prepare},
          {call.name(), [=, times = times.reshape({-1, 1})] { denoiser->forward(noisy, times, **context); }}};
}

std::vector<Work> work_of(const Call& call, const std::shared_ptr<const orrery::Component>& component,
                          const Options& options) {
  if (auto apart = looks(call, component); !apart.empty()) return apart;
  return {{call.name(), [=, how = options.how] { component->call(call.function, call.inputs, how); }}};
}

// Reading the prompt and drawing from what it says is outside: each of the new tokens is one look of the network at the last
// one.
Stage timed_decode(const Call& call, const std::shared_ptr<const orrery::Component>& component, const Options& options) {
  const auto predictor = std::dynamic_pointer_cast<const orrery::TokenPredictor>(component);
  if (!predictor)
    throw orrery::Error(orrery::ErrorKind::kArgument,
                        {.place = "dynamics.decode", .what = "is no function of " + component->class_name()});
  const orrery::TokenDynamics dynamics(predictor);
  const at::Tensor prompt = orrery::require_input(call.inputs, "input_ids", "dynamics.decode");
  orrery::Conditions conditions;
  if (const auto text = call.inputs.find("encoder_hidden_states"); text != call.inputs.end()) conditions.text = text->second;
  const orrery::TokenSampling greedy{.greedy = true};
  return timed("dynamics.decode", options, [&] {
    orrery::TokenState state = dynamics.begin(prompt, conditions);
    dynamics.advance(state, 1, greedy);
    const Stopwatch watch;
    dynamics.advance(state, options.new_tokens, greedy);
    finish(component->device());
    return watch.seconds();
  });
}

void print_table(const std::vector<Stage>& stages, double peak_flops, int64_t peak_rss) {
  std::printf("%-24s %12s %12s %12s %10s\n", "stage", "median", "min", "max", "of peak");
  for (const Stage& stage : stages) {
    std::printf("%-24s %10.3f s %10.3f s %10.3f s", stage.name.c_str(), stage.median(), stage.min(), stage.max());
    if (stage.flops > 0) std::printf(" %8.1f %%", 100 * stage.flops / stage.median() / peak_flops);
    std::printf("\n");
  }
  std::printf("memory peak %s; %d threads; float32 peak %.1f GFLOP/s (a 1024-cubed matrix product)\n",
              human_bytes(peak_rss).c_str(), at::get_num_threads(), peak_flops * 1e-9);
}

void run(const Options& options) {
  const orrery::LoadOptions load = options.model.load();
  Call given = call_from(options.call, options.inputs, load.device);
  const std::shared_ptr<const orrery::Component> component =
      orrery::load_component(options.model.path, options.call.empty() ? "vae" : given.component, load);
  std::vector<Stage> stages{{"load", {seconds_since_start()}}};
  const bool decodes = options.call == "dynamics.decode";
  std::vector<Call> calls;
  if (options.call.empty())
    calls = tokenizer_calls(*component, options, load.device);
  else if (decodes)
    stages.push_back(timed_decode(given, component, options));
  else
    calls = {given};

  std::vector<Work> all;
  for (const Call& call : calls)
    for (Work& work : work_of(call, component, options)) all.push_back(std::move(work));
  for (const Work& work : all)
    stages.push_back(timed(work.name, options, [&] {
      const Stopwatch watch;
      work.run();
      finish(load.device);
      return watch.seconds();
    }));
  const int64_t peak_rss = peak_rss_bytes();  // before counting and the matrix product, which are not the model's work
  for (size_t i = 0; i < all.size() && load.device.is_cpu(); ++i) stages[i + 1].flops = count_flops(all[i].run);
  const double peak_flops = measured_peak_flops();

  const double tokens_per_second =
      decodes ? static_cast<double>(options.new_tokens * given.inputs.at("input_ids").size(0)) / stages[1].median() : 0;
  if (!options.json) {
    print_table(stages, peak_flops, peak_rss);
    if (decodes) std::printf("%.2f tokens/s\n", tokens_per_second);
    return;
  }
  nlohmann::ordered_json json = {{"stages", nlohmann::ordered_json::object()},
                                 {"peak_rss_bytes", peak_rss},
                                 {"threads", at::get_num_threads()},
                                 {"peak_gflops", peak_flops * 1e-9}};
  for (const Stage& stage : stages) {
    auto& entry = json["stages"][stage.name];
    entry = {{"median_s", stage.median()}, {"min_s", stage.min()}, {"max_s", stage.max()}};
    if (stage.processor_seconds > 0) entry["processor_s"] = stage.processor_seconds;
    if (stage.flops > 0) entry["percent_of_peak"] = 100 * stage.flops / stage.median() / peak_flops;
  }
  if (decodes) json["tokens_per_second"] = tokens_per_second;
  std::printf("%s\n", json.dump(2).c_str());
}

}  // namespace

void add_bench(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("bench", "Time a component on this machine");
  options->model.add_to(*command);
  CLI::Option* call =
      command->add_option("--call", options->call, "COMPONENT.FUNCTION; a tokenizer's encode and decode if not given");
  command->add_option("--inputs", options->inputs, "Safetensors file with the call's inputs")->needs(call);
  command
      ->add_option("--new-tokens", options->new_tokens,
                   "Tokens that dynamics.decode makes after its prompt `input_ids`, greedily")
      ->check(above_zero())
      ->capture_default_str();
  command
      ->add_option("--num-frames", options->num_frames, "Frames of the clip of noise that a tokenizer gets without --call")
      ->check(above_zero())
      ->capture_default_str();
  command->add_option("-W,--width", options->width, "Its width")->check(above_zero())->capture_default_str();
  command->add_option("-H,--height", options->height, "Its height")->check(above_zero())->capture_default_str();
  command->add_option("--streaming", options->how.streaming, "Tokenizers: feed so many frames (latents) at a time")
      ->check(above_zero());
  command->add_option("--warmup", options->warmup, "Runs before the clock")->check(not_negative())->capture_default_str();
  command->add_option("--repeat", options->repeat, "Timed runs")->check(above_zero())->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->final_callback([=] { run(*options); });
}

}  // namespace program

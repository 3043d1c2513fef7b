// orrery rollout: an interactive world driven by a recorded action sequence, one step at a time.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "actions_file.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "program.h"
#include "world_prompt.h"

namespace program {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  fs::path image, video, embeds, actions, noise, beside, record, replay, output;
  std::string prompt;
  std::vector<std::string> prompt_at, embeds_at;  // STEP=TEXT, STEP=FILE
  int64_t num_frames = 0, scale = 1;
  uint64_t seed = 0;
  bool json = false;
};

using Rows = std::vector<std::vector<double>>;

// What the world is told on the way: by the step before which it is.
std::map<int64_t, orrery::WorldPrompt> read_prompts(const Options& options) {
  std::map<int64_t, orrery::WorldPrompt> prompts;
  const auto read = [&](const char* option, const std::string& given) {
    const size_t at = given.find('=');
    const bool number = at != std::string::npos && at > 0 && at < 10 && given.find_first_not_of("0123456789") == at;
    if (!number)
      throw orrery::Error(
          orrery::ErrorKind::kArgument,
          {.place = option, .what = "does not say when", .expected = "STEP=…, the first being 0", .got = given});
    return std::pair(std::stoll(given.substr(0, at)), given.substr(at + 1));
  };
  for (const std::string& each : options.prompt_at) {
    const auto [step, text] = read("--prompt-at", each);
    prompts[step] = read_prompt({}, text);
  }
  for (const std::string& each : options.embeds_at) {
    const auto [step, file] = read("--embeds-at", each);
    prompts[step] = read_prompt(file);
  }
  return prompts;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

// Memory of this process that lies in RAM.
int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// What a fork and a restore take, medians.
struct StateTimes {
  double fork_ms = 0, restore_ms = 0;
};

StateTimes time_state(const orrery::World& world, const orrery::State& state) {
  constexpr int kTimes = 21;
  std::vector<double> forks, restores;
  const std::string saved = state.save();
  for (int i = 0; i < kTimes; ++i) {
    const Stopwatch fork;
    const orrery::State other = state.fork();
    forks.push_back(1000 * fork.seconds());
    const Stopwatch restore;
    const orrery::State restored = world.restore(saved);
    restores.push_back(1000 * restore.seconds());
  }
  return {percentile(forks, 0.5), percentile(restores, 0.5)};
}

// Tensors [n,..] that are kept one after another, in blocks of memory of their own. Kept as they come they would lie between
// what a step takes and gives back, and each step would get other memory than the one before: new pages, which take as long
// as a third of a small world's step.
class Series {
 public:
  void add(const at::Tensor& rows) {
    const int64_t count = rows.size(0);
    if (!block_.defined() || used_ + count > block_.size(0)) {
      std::vector<int64_t> sizes = rows.sizes().vec();
      sizes[0] = std::max(count, kBytes / std::max<int64_t>(1, rows[0].nbytes()));
      block_ = at::empty(sizes, rows.options());
      used_ = 0;
    }
    kept_.push_back(block_.narrow(0, used_, count).copy_(rows));
    used_ += count;
  }
  bool empty() const { return kept_.empty(); }
  at::Tensor all() const { return at::cat(kept_); }

 private:
  static constexpr int64_t kBytes = int64_t{4} << 20;
  at::Tensor block_;  // the newest
  int64_t used_ = 0;  // of it
  std::vector<at::Tensor> kept_;
};

// Where the frames go: a video as they come, so that a long drive takes no more memory than a short one; or one tensor at
// the end.
class Output {
 public:
  Output(const Options& options, const orrery::World& world) : options_(options) {
    const double fps = world.action_space().rate_hz > 0 ? world.action_space().rate_hz : 10;
    if (options.output.extension() != ".safetensors") writer_.emplace(options.output, orrery::WriteOptions{.fps = fps});
    if (!options.beside.empty())
      real_.emplace(options.beside, orrery::ReadOptions{.size = {.height = world.height(), .width = world.width()}});
  }

  // frames float [T,3,H,W]; `latent` is the world's own form of the newest (kept for .safetensors)
  void add(const at::Tensor& frames, const at::Tensor& latent) {
    if (!writer_ && latent.defined()) latents_.add(latent.unsqueeze(0));
    if (!writer_) return kept_.add(frames);
    orrery::Video shown = orrery::to_video(frames.transpose(0, 1).unsqueeze(0), 0);
    if (real_) {
      const at::Tensor beside = real_->read(shown.num_frames());
      if (!beside.defined() || beside.size(0) != shown.num_frames())
        throw orrery::Error(orrery::ErrorKind::kMedia,
                            {.place = options_.beside.string(), .what = "has fewer frames than are imagined"});
      shown = orrery::side_by_side({beside, 0}, shown);
    }
    if (options_.scale > 1)
      shown = orrery::resize(shown, {.height = options_.scale * shown.height(), .width = options_.scale * shown.width()});
    writer_->write(shown.frames);
  }

  void finish() {
    if (writer_) return writer_->finish();
    orrery::TensorMap tensors = {{"video", kept_.all().transpose(0, 1).unsqueeze(0).contiguous()}};  // [1,3,T,H,W]
    if (!latents_.empty()) tensors["latents"] = latents_.all();
    orrery::save_safetensors(options_.output, tensors);
  }

 private:
  const Options& options_;
  std::optional<orrery::VideoWriter> writer_;
  std::optional<orrery::VideoReader> real_;
  Series kept_, latents_;
};

orrery::Recording read_recording(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw orrery::Error(orrery::ErrorKind::kArgument, {.place = path.string(), .what = "cannot be read"});
  return orrery::Recording::from_bytes(std::string(std::istreambuf_iterator<char>(file), {}));
}

void write_recording(const orrery::Recording& recording, const fs::path& path) {
  const fs::path beside = path.string() + ".part";
  std::ofstream file(beside, std::ios::binary);
  file << recording.to_bytes();
  file.close();
  if (!file) throw orrery::Error(orrery::ErrorKind::kDevice, {.place = path.string(), .what = "cannot be written"});
  fs::rename(beside, path);
}

void replay(const Options& options, const orrery::World& world) {
  const orrery::Recording recording = read_recording(options.replay);
  Output output(options, world);
  for (const at::Tensor& frames : world.replay(recording)) output.add(frames, {});
  output.finish();
  std::printf("%zu steps, each the same to the byte as recorded\n", recording.actions.size());
}

void run(const Options& options) {
  require_writable(options.output);
  if (!options.record.empty()) require_writable(options.record);
  const auto world = orrery::World::from_pretrained(options.model.path, options.model.load());
  if (!options.replay.empty()) return replay(options, *world);
  const bool idle = world->action_space().width == 0;  // it goes on by itself
  if (options.actions.empty() == !idle)
    throw orrery::Error(orrery::ErrorKind::kArgument, {.place = "--actions",
                                                       .what = idle ? "are given, and this world takes none" : "are missing",
                                                       .expected = idle ? "--num-frames alone" : "a file of rows"});
  const Rows actions = idle ? Rows(static_cast<size_t>(std::max<int64_t>(1, options.num_frames)))
                            : read_actions(options.actions, world->action_space());
  const auto prompts = read_prompts(options);
  const int64_t rows = options.num_frames > 0 ? options.num_frames : static_cast<int64_t>(actions.size());
  if (rows > static_cast<int64_t>(actions.size()))
    throw orrery::Error(orrery::ErrorKind::kArgument, {.place = options.actions.string(),
                                                       .what = "holds too few actions",
                                                       .expected = std::to_string(rows) + " rows",
                                                       .got = std::to_string(actions.size())});
  const int64_t rows_per_step = world->action_space().rows_per_step, steps = (rows + rows_per_step - 1) / rows_per_step;
  at::Tensor noise;
  if (!options.noise.empty())
    noise = orrery::require_input(orrery::load_safetensors(options.noise), "noise", options.noise.string());
  if (noise.defined() && (noise.dim() == 0 || noise.size(0) < steps))
    throw orrery::Error(orrery::ErrorKind::kArgument, {.place = options.noise.string() + ": noise",
                                                       .what = "holds too few draws, one for each step",
                                                       .expected = std::to_string(steps),
                                                       .got = std::to_string(noise.dim() == 0 ? 0 : noise.size(0))});

  const fs::path& seen = options.image.empty() ? options.video : options.image;
  orrery::State state = world->begin(seen.empty() ? orrery::Video() : orrery::read_video(seen), options.seed,
                                     read_prompt(options.embeds, options.prompt));
  state.history_limit = 0;
  orrery::Recording recording;
  if (!options.record.empty()) recording.start = state.save();
  Output output(options, *world);
  std::vector<double> step_ms;
  step_ms.reserve(static_cast<size_t>(rows));
  int64_t frames = 0, early_bytes = 0;
  const orrery::WorkOptions watch = work();
  for (int64_t row = 0, step = 0; row < rows; ++step) {
    watch.cancel.check("rollout");
    std::vector<double> action;
    const int64_t first = row;
    for (; row < std::min(rows, first + rows_per_step); ++row) {
      world->action_space().check(actions[row], options.actions.string() + ": row " + std::to_string(row) + ": action");
      action.insert(action.end(), actions[row].begin(), actions[row].end());
    }
    if (const auto told = prompts.find(step); told != prompts.end()) {
      world->tell(state, told->second);
      if (!options.record.empty()) recording.add_told(state);
    }
    const Stopwatch one;
    const at::Tensor imagined = world->step(state, action, noise.defined() ? noise[step] : at::Tensor());
    step_ms.push_back(1000 * one.seconds());
    frames += imagined.size(0);
    if (!options.record.empty()) recording.add(action, imagined);
    output.add(imagined, state.last);
    if (step == 99) early_bytes = resident_bytes();
    if (watch.on_progress)
      watch.on_progress({"rollout", row, rows, step_ms.back() / 1000 * static_cast<double>(rows - row)});
  }
  output.finish();
  if (!options.record.empty()) write_recording(recording, options.record);

  const double rate = 1000 * static_cast<double>(frames) / std::accumulate(step_ms.begin(), step_ms.end(), 0.0);
  const double p50 = percentile(step_ms, 0.5), p95 = percentile(step_ms, 0.95), p99 = percentile(step_ms, 0.99);
  if (options.json) {
    const StateTimes times = time_state(*world, state);
    nlohmann::json json = {{"frames", frames},
                           {"frames_per_second", rate},
                           {"step_ms", {{"p50", p50}, {"p95", p95}, {"p99", p99}}},
                           {"state_bytes", state.bytes()},
                           {"resident_bytes", resident_bytes()}};
    json["fork_ms"] = times.fork_ms;
    json["restore_ms"] = times.restore_ms;
    if (early_bytes > 0) json["resident_bytes_after_100_steps"] = early_bytes;
    std::puts(json.dump().c_str());
  } else {
    std::printf("%lld frames, %.1f a second; a step takes %.1f ms (p50), %.1f ms (p95), %.1f ms (p99); the state has %s\n",
                static_cast<long long>(frames), rate, p50, p95, p99, human_bytes(state.bytes()).c_str());
  }
}

}  // namespace

void add_rollout(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("rollout", "Drive an interactive world with a recorded action sequence");
  options->model.add_to(*command);
  CLI::Option_group* start = command->add_option_group("start", "What the world looks like at first");
  start->add_option("-i,--image", options->image, "Picture");
  start->add_option("--video", options->video, "Video, observed frame by frame");
  start->add_option("--replay", options->replay,
                    "What --record wrote: imagined again, every frame checked against its hash");
  start->require_option(0, 1);
  command->add_option("--embeds", options->embeds,
                      "Safetensors file: `prompt_embeds` [1,L,D], `image_embeds` [1,L,D]; or `state` [1,T,S] with the "
                      "`actions` [1,T-1,A] between, "
                      "in place of a picture");
  command->add_option("-p,--prompt", options->prompt, "What happens, in words, for a world that takes some");
  for (const auto& [name, value, what] :
       {std::tuple("--prompt-at", &options->prompt_at, "STEP=TEXT: what happens from this step on"),
        std::tuple("--embeds-at", &options->embeds_at, "STEP=FILE: the same, as --embeds")})
    command->add_option(name, *value, std::string(what) + " (repeatable)")
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--actions", options->actions,
                      ".npy, .json (rows, numbers or names) or .safetensors with `actions` [T,A]");
  command->add_option("--num-frames", options->num_frames, "Steps; as many as there are actions if not given")
      ->check(above_zero());
  command->add_option("-s,--seed", options->seed, "Seed of the noise");
  command->add_option("--noise", options->noise,
                      "Safetensors file with `noise` [T,C,h,w], in place of the random generator");
  command->add_option("--beside", options->beside, "A real video to show beside the imagined one");
  command->add_option("--scale", options->scale, "Enlarge pictures so many times")->check(CLI::Range(1, 16));
  command->add_option("--record", options->record,
                      "Write what --replay reads: the state at the beginning, the actions, a hash of each frame");
  command->add_flag("--json", options->json, "Print the speed as JSON");
  command->add_option("-o,--output", options->output, "MP4, MKV, WebM, GIF, folder, %05d.png pattern, or .safetensors")
      ->required();
  command->final_callback([=] {
    if (options->image.empty() && options->video.empty() && options->replay.empty() && options->embeds.empty() &&
        options->prompt.empty())
      throw CLI::RequiredError("-i, --video, --replay, --embeds or --prompt");
    if (options->actions.empty() && options->replay.empty() && options->num_frames == 0)
      throw CLI::RequiredError("--actions");
    run(*options);
  });
}

}  // namespace program

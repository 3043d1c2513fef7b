// orrery rollout: an interactive world driven by a recorded action sequence, one step at a time.
#include <ATen/ops/stack.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "orrery/arrays.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "program.h"

namespace program {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  fs::path image, video, actions, noise, beside, output;
  int64_t num_frames = 0;
  uint64_t seed = 0;
  bool json = false;
};

using Rows = std::vector<std::vector<double>>;

Rows rows_of(const at::Tensor& table) {
  const at::Tensor rows = (table.dim() == 1 ? table.unsqueeze(1) : table).to(at::kDouble).contiguous();
  Rows out;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const double* row = rows.data_ptr<double>() + i * rows.size(1);
    out.emplace_back(row, row + rows.size(1));
  }
  return out;
}

// .npy, .safetensors with `actions`, or a JSON array of rows, numbers or named actions.
Rows read_actions(const fs::path& path, const orrery::World& world) {
  if (path.extension() == ".npy") return rows_of(orrery::load_npy(path));
  if (path.extension() == ".safetensors") {
    const orrery::TensorMap tensors = orrery::load_safetensors(path);
    return rows_of(orrery::require_input(tensors, "actions", path.string()));
  }
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array())
    throw orrery::Error(orrery::ErrorKind::kArgument,
                        {.place = path.string(), .what = "holds no actions", .expected = "a .npy, a .safetensors, or a JSON array of rows"});
  Rows out;
  for (const auto& row : json) {
    if (row.is_string()) out.push_back(world.encode_action(row.get<std::string>()));
    else if (row.is_number()) out.push_back({row.get<double>()});
    else out.push_back(row.get<std::vector<double>>());
  }
  return out;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

void run(const Options& options) {
  require_writable(options.output);
  const auto world = orrery::World::from_pretrained(options.model.path, options.model.load());
  const Rows actions = read_actions(options.actions, *world);
  const int64_t frames = options.num_frames > 0 ? options.num_frames : static_cast<int64_t>(actions.size());
  if (frames > static_cast<int64_t>(actions.size()))
    throw orrery::Error(orrery::ErrorKind::kArgument, {.place = options.actions.string(),
                                                       .what = "holds too few actions",
                                                       .expected = std::to_string(frames) + " rows",
                                                       .got = std::to_string(actions.size())});
  at::Tensor noise;
  if (!options.noise.empty()) noise = orrery::require_input(orrery::load_safetensors(options.noise), "noise", options.noise.string());

  orrery::State state = world->begin(orrery::read_video(options.image.empty() ? options.video : options.image), options.seed);
  std::vector<at::Tensor> imagined;
  std::vector<double> step_ms;
  const orrery::WorkOptions watch = work();
  const Stopwatch whole;
  for (int64_t i = 0; i < frames; ++i) {
    watch.cancel.check("rollout");
    const Stopwatch one;
    try {
      imagined.push_back(world->step(state, actions[i], noise.defined() ? noise[i] : at::Tensor()));
    } catch (const orrery::Error& error) {
      orrery::ErrorDetail detail = error.detail();
      detail.place = options.actions.string() + ": row " + std::to_string(i) + ": " + detail.place;
      throw orrery::Error(error.kind(), detail);
    }
    step_ms.push_back(1000 * one.seconds());
    if (watch.on_progress) watch.on_progress({"rollout", i + 1, frames, whole.seconds() / static_cast<double>(i + 1) * static_cast<double>(frames - i - 1)});
  }
  const double rate = static_cast<double>(frames) / whole.seconds();
  const double fps = world->action_space().rate_hz > 0 ? world->action_space().rate_hz : 10;
  const at::Tensor video = at::stack(imagined, 2);  // [1,3,T,H,W]
  if (options.output.extension() == ".safetensors") {
    orrery::save_safetensors(options.output, {{"video", video}});
  } else {
    orrery::Video future = orrery::to_video(video, fps);
    if (!options.beside.empty()) {
      const orrery::Video real = orrery::read_video(options.beside, {.num_frames = frames, .size = {.height = world->height(), .width = world->width()}});
      future = orrery::side_by_side(real, future);
    }
    orrery::write_video(options.output, future);
  }
  const double p50 = percentile(step_ms, 0.5), p95 = percentile(step_ms, 0.95), p99 = percentile(step_ms, 0.99);
  if (options.json)
    std::puts(nlohmann::json({{"frames_per_second", rate}, {"step_ms", {{"p50", p50}, {"p95", p95}, {"p99", p99}}}, {"state_bytes", state.bytes()}}).dump().c_str());
  else
    std::printf("%lld frames, %.1f a second; a step takes %.1f ms (p50), %.1f ms (p95), %.1f ms (p99)\n", static_cast<long long>(frames), rate, p50, p95, p99);
}

}  // namespace

void add_rollout(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("rollout", "Drive an interactive world with a recorded action sequence");
  options->model.add_to(*command);
  CLI::Option_group* start = command->add_option_group("start", "What the world looks like at first");
  start->add_option("-i,--image", options->image, "Picture");
  start->add_option("--video", options->video, "Video, observed frame by frame");
  start->require_option(1);
  command->add_option("--actions", options->actions, ".npy, .json (rows, numbers or names) or .safetensors with `actions` [T,A]")->required();
  command->add_option("--num-frames", options->num_frames, "Steps; as many as there are actions if not given")->check(CLI::PositiveNumber);
  command->add_option("-s,--seed", options->seed, "Seed of the noise");
  command->add_option("--noise", options->noise, "Safetensors file with `noise` [T,C,h,w], in place of the random generator");
  command->add_option("--beside", options->beside, "A real video to show beside the imagined one");
  command->add_flag("--json", options->json, "Print the speed as JSON");
  command->add_option("-o,--output", options->output, "MP4, MKV, WebM, GIF, folder, %05d.png pattern, or .safetensors")->required();
  command->final_callback([=] { run(*options); });
}

}  // namespace program

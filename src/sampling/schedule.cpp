#include "sampling/schedule.h"

#include <cmath>
#include <functional>
#include <string>
#include <utility>

#include "orrery/error.h"
#include "sampling/original_schedules.h"

namespace orrery::sampling {
namespace {

void refuse(const Config& config, const char* key) {
  if (config.get<bool>(key, false))
    throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": " + key,
                                          .what = "is not supported",
                                          .expected = "false",
                                          .got = "true",
                                          .hint = "use the scheduler that the checkpoint was published with"});
}

// The last row's target: σ = 0, or the smallest σ once more.
double final_sigma(const Config& config, double last) {
  const auto type = config.get<std::string>("final_sigmas_type", "zero");
  if (type == "zero") return 0;
  if (type == "sigma_min") return last;
  throw Error(ErrorKind::kConfig, {.place = config.place() + ": final_sigmas_type",
                                   .what = "is not known",
                                   .expected = "\"zero\" or \"sigma_min\"",
                                   .got = "\"" + type + "\""});
}

Schedule edm_euler(const Config& config, const ScheduleOptions& options) {
  const double sigma_min = config.get<double>("sigma_min", 0.002), sigma_max = config.get<double>("sigma_max", 80.0);
  const auto kind = config.get<std::string>("sigma_schedule", "karras");
  std::vector<double> sigmas, times;
  if (kind == "karras") {
    sigmas = karras_sigmas(sigma_max, sigma_min, options.steps, config.get<double>("rho", 7.0));
  } else if (kind == "exponential") {
    for (double x : linspace(std::log(sigma_max), std::log(sigma_min), options.steps)) sigmas.push_back(std::exp(x));
  } else {
    throw Error(ErrorKind::kConfig, {.place = config.place() + ": sigma_schedule",
                                     .what = "is not known",
                                     .expected = "\"karras\" or \"exponential\"",
                                     .got = "\"" + kind + "\""});
  }
  for (double& sigma : sigmas) sigma = as_float32(sigma);
  for (double sigma : sigmas) times.push_back(as_float32(0.25 * std::log(sigma)));
  sigmas.push_back(final_sigma(config, sigmas.back()));
  return solving_rows(sigmas, times);
}

Schedule flow_match_euler(const Config& config, const ScheduleOptions& options) {
  for (const char* key : {"use_dynamic_shifting", "use_beta_sigmas", "use_exponential_sigmas", "invert_sigmas"})
    refuse(config, key);
  Schedule schedule;
  if (const auto list = config.get<std::vector<double>>("denoising_step_list", {}); !list.empty()) {
    schedule = step_list_schedule(config, options, list);
  } else {
    const auto train = static_cast<double>(config.get<int64_t>("num_train_timesteps", 1000));
    const double shift = options.flow_shift.value_or(config.get<double>("shift", 1.0));
    // The reference shifts its end points at construction, and the whole ramp once more when the steps are set.
    std::vector<double> sigmas =
        options.unit_ramp ? linspace(0, 1, options.steps)
                          : linspace(as_float32(shifted(1, shift)), as_float32(shifted(1 / train, shift)), options.steps);
    std::vector<double> times;
    for (double& sigma : sigmas) sigma = shifted(sigma, shift);
    if (config.get<bool>("use_karras_sigmas", false))
      sigmas = karras_sigmas(config.get<double>("sigma_max", sigmas.front()), config.get<double>("sigma_min", sigmas.back()),
                             options.steps);
    for (double& sigma : sigmas) sigma = as_float32(sigma);
    for (double sigma : sigmas) times.push_back(as_float32(sigma * train));
    sigmas.push_back(0);
    schedule = solving_rows(sigmas, times);
  }
  if (config.get<bool>("stochastic_sampling", false))
    for (Row& row : schedule.rows) row.mode = row.next > 0 ? RowMode::kFreshNoise : RowMode::kClean;
  return schedule;
}

Schedule unipc_flow(const Config& config, const ScheduleOptions& options) {
  for (const char* key : {"use_dynamic_shifting", "use_beta_sigmas", "use_exponential_sigmas", "thresholding"})
    refuse(config, key);
  if (!config.get<bool>("use_flow_sigmas", false))
    throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": use_flow_sigmas",
                                          .what = "is false",
                                          .expected = "true: only the rectified-flow form of UniPC is known"});
  const auto train = static_cast<double>(config.get<int64_t>("num_train_timesteps", 1000));
  std::vector<double> sigmas, times;
  if (config.get<bool>("use_karras_sigmas", false)) {
    sigmas = karras_sigmas(config.require<double>("sigma_max"), config.require<double>("sigma_min"), options.steps);
    for (double& sigma : sigmas) sigma = sigma / (sigma + 1);
  } else {
    const double shift = options.flow_shift.value_or(config.get<double>("flow_shift", 1.0));
    sigmas = linspace(1, 1 / train, options.steps + 1);
    sigmas.pop_back();
    for (double& sigma : sigmas) sigma = shifted(sigma, shift);
    // log(1 − σ) of the first step must be finite.
    if (std::abs(sigmas[0] - 1) < 1e-6) sigmas[0] -= 1e-6;
  }
  for (double sigma : sigmas) times.push_back(std::trunc(sigma * train));
  sigmas.push_back(final_sigma(config, sigmas.back()));
  for (double& sigma : sigmas) sigma = as_float32(sigma);
  return solving_rows(sigmas, times);
}

}  // namespace

std::vector<double> linspace(double first, double last, int64_t count) {
  std::vector<double> values(count, first);
  for (int64_t i = 1; i < count; ++i)
    values[i] = first + (last - first) * static_cast<double>(i) / static_cast<double>(count - 1);
  return values;
}

Schedule solving_rows(const std::vector<double>& sigmas, const std::vector<double>& times) {
  Schedule schedule;
  for (size_t i = 0; i < times.size(); ++i) schedule.rows.push_back({sigmas[i], sigmas[i + 1], times[i]});
  return schedule;
}

std::vector<double> karras_sigmas(double sigma_max, double sigma_min, int64_t count, double rho) {
  const double max_root = std::pow(sigma_max, 1 / rho), min_root = std::pow(sigma_min, 1 / rho);
  std::vector<double> sigmas;
  for (double ramp : linspace(0, 1, count)) sigmas.push_back(std::pow(max_root + ramp * (min_root - max_root), rho));
  return sigmas;
}

Schedule make_schedule(const Config& scheduler, const ScheduleOptions& options) {
  if (options.steps < 1)
    throw Error(
        ErrorKind::kArgument,
        {.place = "steps", .what = "leaves nothing to do", .expected = "at least 1", .got = std::to_string(options.steps)});
  const auto name = scheduler.require<std::string>("_class_name");
  using Maker = std::function<Schedule(const Config&, const ScheduleOptions&)>;
  static const std::vector<std::pair<std::string, Maker>> kKnown = {
      {"EDMEulerScheduler", edm_euler},
      {"FlowMatchEulerDiscreteScheduler", flow_match_euler},
      {"UniPCMultistepScheduler", unipc_flow},
      {"FlowUniPCMultistepScheduler", flow_unipc_schedule},
      {"RESSampler", [](const Config& c, const ScheduleOptions& o) { return ab2_schedule(c, o, /*flow=*/false); }},
      {"RectifiedFlowAB2Scheduler",
       [](const Config& c, const ScheduleOptions& o) { return ab2_schedule(c, o, /*flow=*/true); }},
      {"TrigFlowSampler", trigflow_schedule}};
  std::string known;
  for (const auto& [class_name, make] : kKnown) {
    if (class_name == name) return make(scheduler, options);
    known += (known.empty() ? "" : ", ") + class_name;
  }
  throw Error(ErrorKind::kUnsupported, {.place = scheduler.place(),
                                        .what = "names a scheduler that is not known",
                                        .expected = "one of " + known,
                                        .got = name});
}

}  // namespace orrery::sampling

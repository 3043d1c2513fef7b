#include "sampling/original_schedules.h"

#include <cmath>
#include <numbers>
#include <string>

#include "orrery/error.h"

namespace orrery::sampling {

Schedule ab2_schedule(const Config& config, const ScheduleOptions& options, bool flow) {
  const auto sigmas = karras_sigmas(config.get<double>("sigma_max", 80.0), config.get<double>("sigma_min", 0.002),
                                    options.steps + 1, config.get<double>("order", 7.0));
  const auto time = [flow](double sigma) { return flow ? sigma / (1 + sigma) : 0.25 * std::log(sigma); };
  Schedule schedule;
  for (int64_t i = 0; i < options.steps; ++i) schedule.rows.push_back({sigmas[i], sigmas[i + 1], time(sigmas[i])});
  if (config.get<bool>("sample_clean", true))
    schedule.rows.push_back({sigmas.back(), 0, time(sigmas.back()), RowMode::kClean});
  return schedule;
}

Schedule flow_unipc_schedule(const Config& config, const ScheduleOptions& options) {
  const auto train = static_cast<double>(config.get<int64_t>("num_train_timesteps", 1000));
  std::vector<double> sigmas;
  if (config.get<bool>("use_kerras_sigma", false)) {
    sigmas = karras_sigmas(200, 0.01, options.steps + 1);
    for (double& sigma : sigmas) sigma = sigma / (1 + sigma);
  } else {
    const double shift = options.flow_shift.value_or(config.get<double>("shift", 1.0));
    sigmas = linspace(1 - 1 / train, 0, options.steps + 1);
    sigmas.pop_back();
    for (double& sigma : sigmas) sigma = shifted(sigma, shift);
  }
  std::vector<double> times;
  for (const double sigma : sigmas) times.push_back(std::trunc(sigma * train));
  sigmas.push_back(0);
  for (double& sigma : sigmas) sigma = as_float32(sigma);
  return solving_rows(sigmas, times);
}

Schedule trigflow_schedule(const Config& config, const ScheduleOptions& options) {
  const auto train = static_cast<double>(config.get<int64_t>("num_train_timesteps", 1000));
  const std::vector<double> angles = {std::numbers::pi / 2, std::atan(15.0), std::atan(5.0), std::atan(5.0 / 3)};
  std::vector<double> sigmas;
  if (options.steps <= static_cast<int64_t>(angles.size()) && !options.flow_shift) {
    for (int64_t i = 0; i < options.steps; ++i)
      sigmas.push_back(std::sin(angles[i]) / (std::sin(angles[i]) + std::cos(angles[i])));
  } else {
    const double shift = options.flow_shift.value_or(config.get<double>("shift", 5.0));
    for (int64_t i = options.steps; i > 0; --i)
      sigmas.push_back(shifted(static_cast<double>(i) / static_cast<double>(options.steps), shift));
  }
  sigmas.push_back(0);
  Schedule schedule;
  for (int64_t i = 0; i < options.steps; ++i)
    schedule.rows.push_back(
        {sigmas[i], sigmas[i + 1], sigmas[i] * train, sigmas[i + 1] > 0 ? RowMode::kSameNoise : RowMode::kClean});
  return schedule;
}

Schedule step_list_schedule(const Config& config, const ScheduleOptions& options, const std::vector<double>& list) {
  if (options.steps != static_cast<int64_t>(list.size()))
    throw Error(ErrorKind::kArgument, {.place = "steps",
                                       .what = "are not those that the model was distilled for",
                                       .expected = std::to_string(list.size()),
                                       .got = std::to_string(options.steps)});
  const auto train = static_cast<double>(config.get<int64_t>("num_train_timesteps", 1000));
  const double shift = options.flow_shift.value_or(config.get<double>("shift", 1.0));
  std::vector<double> sigmas, times;
  for (const double time : list) sigmas.push_back(as_float32(shifted(time / train, shift)));
  for (const double sigma : sigmas) times.push_back(as_float32(sigma * train));
  sigmas.push_back(0);
  return solving_rows(sigmas, times);
}

}  // namespace orrery::sampling

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "orrery/config.h"

namespace orrery::sampling {

/// The rows of one sampling run, as data: step i goes from sigmas[i] to sigmas[i + 1], and the reference calls it times[i].
struct Schedule {
  std::vector<double> sigmas;  ///< steps + 1 noise levels, each rounded to float32 as the reference stores them
  std::vector<double> times;   ///< steps entries: the reference scheduler's `timesteps`

  int64_t steps() const { return static_cast<int64_t>(times.size()); }
};

/// What a caller may say about a schedule.
struct ScheduleOptions {
  int64_t steps = 36;
  std::optional<double> flow_shift;  ///< replaces the scheduler config's `flow_shift` or `shift`
  bool unit_ramp = false;            ///< start from a ramp 0…1 in place of the scheduler's own (what the Predict2 pipelines hand over)
};

/// The schedule that a diffusers scheduler_config.json makes: EDMEulerScheduler, FlowMatchEulerDiscreteScheduler,
/// UniPCMultistepScheduler (flow). Throws Error(kUnsupported) on another class (listing the known) or an option that is not
/// carried out, Error(kArgument) where steps < 1. Source: diffusers 0.42.1 schedulers/.
Schedule make_schedule(const Config& scheduler, const ScheduleOptions& options);

/// σ_i between max and min, evenly spaced in σ^(1/ρ) (Karras et al. 2022, equation 5).
std::vector<double> karras_sigmas(double sigma_max, double sigma_min, int64_t steps, double rho = 7.0);

}  // namespace orrery::sampling

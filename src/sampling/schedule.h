#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "orrery/config.h"

namespace orrery::sampling {

/// How one row gets from its noise level to the next.
enum class RowMode {
  kSolve,       ///< the solver's rule
  kClean,       ///< the prediction x̂₀ itself: a last look at the sample, not a step
  kSameNoise,   ///< (1 − σ') x̂₀ + σ' ε with the noise the run began with: few-step distilled models
  kFreshNoise,  ///< the same with noise that is drawn anew
};

/// One row of a schedule.
struct Row {
  double sigma = 0;  ///< where the row begins
  double next = 0;   ///< where it ends
  double time = 0;   ///< what the reference calls it: its scheduler's `timesteps`
  RowMode mode = RowMode::kSolve;
};

/// The rows of one sampling run, as data: each is one look of the network.
struct Schedule {
  std::vector<Row> rows;
  int64_t steps() const { return static_cast<int64_t>(rows.size()); }
};

/// What a caller may say about a schedule.
struct ScheduleOptions {
  int64_t steps = 36;
  std::optional<double> flow_shift;  ///< replaces the scheduler config's `flow_shift` or `shift`
  bool unit_ramp = false;  ///< start from a ramp 0…1 in place of the scheduler's own (what the Predict2 pipelines hand over)
};

/// The schedule that a scheduler_config.json makes. Of diffusers: EDMEulerScheduler, FlowMatchEulerDiscreteScheduler,
/// UniPCMultistepScheduler (flow). Of the original repositories, under their classes' names: RESSampler (2ab),
/// RectifiedFlowAB2Scheduler, FlowUniPCMultistepScheduler, TrigFlowSampler. Throws Error(kUnsupported) on another class
/// (listing the known) or an option that is not carried out, Error(kArgument) where steps < 1 or there are not so many.
Schedule make_schedule(const Config& scheduler, const ScheduleOptions& options);

/// σ_i between max and min, evenly spaced in σ^(1/ρ) (Karras et al. 2022, equation 5).
std::vector<double> karras_sigmas(double sigma_max, double sigma_min, int64_t count, double rho = 7.0);

/// Rows that solve from each σ to the one behind it; `times` are one fewer.
Schedule solving_rows(const std::vector<double>& sigmas, const std::vector<double>& times);

/// A ramp from first to last, both included; a lone value is the first.
std::vector<double> linspace(double first, double last, int64_t count);

/// s σ / (1 + (s − 1) σ), which moves a flow schedule towards noise.
inline double shifted(double sigma, double shift) {
  return shift * sigma / (1 + (shift - 1) * sigma);
}

/// The value that float32 has for it.
inline double as_float32(double x) {
  return static_cast<double>(static_cast<float>(x));
}

}  // namespace orrery::sampling

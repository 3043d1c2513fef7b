#pragma once

#include "sampling/schedule.h"

namespace orrery::sampling {

/// RESSampler (Cosmos Predict1) and RectifiedFlowAB2Scheduler (Predict2): N + 1 Karras values, N steps of two-step
/// Adams-Bashforth and one clean pass at σ_min. `flow`: the reference's time is σ / (1 + σ), else ¼ ln σ. Source:
/// nvidia-cosmos/cosmos-predict1:cosmos_predict1/diffusion/modules/res_sampler.py,
/// nvidia-cosmos/cosmos-predict2:cosmos_predict2/schedulers/rectified_flow_scheduler.py.
Schedule ab2_schedule(const Config& config, const ScheduleOptions& options, bool flow);

/// FlowUniPCMultistepScheduler (Wan, Predict2.5): 0.999 … 0 without its end, shifted; or, `use_kerras_sigma`, N + 1 Karras
/// values 200 … 0.01 mapped by σ / (1 + σ). Source: Wan-Video/Wan2.1:wan/utils/fm_solvers_unipc.py,
/// nvidia-cosmos/cosmos-transfer2.5:cosmos_transfer2/_src/predict2/models/fm_solvers_unipc.py.
Schedule flow_unipc_schedule(const Config& config, const ScheduleOptions& options);

/// TrigFlowSampler (Predict2.5 distilled): angles π/2, atan 15, atan 5, atan 5/3, told as σ = sin / (sin + cos), each hop
/// back with the first noise. More steps than that: the shifted flow grid. Source:
/// nvidia-cosmos/cosmos-transfer2.5:cosmos_transfer2/_src/interactive/methods/cosmos2_interactive_model.py.
Schedule trigflow_schedule(const Config& config, const ScheduleOptions& options);

/// FlowMatchEulerDiscreteScheduler with `denoising_step_list` (few-step distilled Wan): the named times, shifted.
Schedule step_list_schedule(const Config& config, const ScheduleOptions& options, const std::vector<double>& list);

}  // namespace orrery::sampling

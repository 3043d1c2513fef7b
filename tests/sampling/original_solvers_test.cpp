// The original repositories' solvers: against their formulas written down here once more, in float64 and for one number; and
// for their order, on a path that is known.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "orrery/error.h"
#include "sampling/noise.h"
#include "sampling/schedule.h"
#include "sampling/solver.h"
#include "support/compare.h"

namespace orrery::sampling {
namespace {

Config scheduler(const std::string& json) {
  return Config::parse(json, "scheduler_config.json");
}

using Predict = std::function<double(double x, double sigma)>;

// A prediction x̂₀ that is linear in neither.
double predict(double x, double sigma) {
  return 0.6 * std::sin(x / (1 + sigma)) + 0.2 * std::cos(3 * sigma) / (1 + sigma);
}

// The solver of this config from x to the end, in float64.
double run(const std::string& json, const ScheduleOptions& options, double x, const Predict& clean) {
  const Config config = scheduler(json);
  const Schedule schedule = make_schedule(config, options);
  const auto solver = make_solver(config, schedule);
  at::Tensor sample = at::full({1, 1, 1, 1, 1}, x, at::kDouble);
  for (int64_t i = 0; i < schedule.steps(); ++i) {
    const double sigma = schedule.rows[i].sigma;
    sample = solver->step(i, sample,
                          at::full_like(sample, (sample.item<double>() - clean(sample.item<double>(), sigma)) / sigma));
  }
  return sample.item<double>();
}

void expect_equal(double actual, double expected) {
  EXPECT_TRUE(
      testing::is_close(at::full({1}, actual, at::kDouble), at::full({1}, expected, at::kDouble), testing::kSameMath))
      << actual << " and " << expected;
}

std::vector<double> karras(double top, double bottom, int64_t count) {
  std::vector<double> sigmas;
  for (int64_t i = 0; i < count; ++i) {
    const double ramp = static_cast<double>(i) / static_cast<double>(count - 1);
    sigmas.push_back(std::pow(std::pow(top, 1 / 7.0) + ramp * (std::pow(bottom, 1 / 7.0) - std::pow(top, 1 / 7.0)), 7.0));
  }
  return sigmas;
}

// res_x0_rk2_step and reg_x0_euler_step over N + 1 Karras values, then the clean pass.
double ab2(int64_t steps, double x) {
  const auto sigmas = karras(80, 0.002, steps + 1);
  double last_clean = 0;
  for (int64_t i = 0; i < steps; ++i) {
    const double s = -std::log(sigmas[i]), t = -std::log(sigmas[i + 1]), dt = t - s;
    const double clean = predict(x, sigmas[i]);
    if (i == 0) {
      x = (sigmas[0] - sigmas[1]) / sigmas[0] * clean + sigmas[1] / sigmas[0] * x;
    } else {
      const double c2 = (-std::log(sigmas[i - 1]) - s) / dt;
      const double phi1 = (std::exp(-dt) - 1) / -dt, phi2 = (phi1 - 1) / -dt;
      x = std::exp(-dt) * x + dt * ((phi1 - phi2 / c2) * clean + phi2 / c2 * last_clean);
    }
    last_clean = clean;
  }
  return predict(x, sigmas.back());
}

TEST(OriginalSolverTest, Ab2EqualsItsFormulas) {
  for (const char* name : {"RESSampler", "RectifiedFlowAB2Scheduler"})
    for (const int64_t steps : {1, 2, 7, 35})
      expect_equal(run(std::string(R"({"_class_name":")") + name + "\"}", {.steps = steps}, 71.3, predict),
                   ab2(steps, 71.3));
}

TEST(OriginalSolverTest, Ab2IsOfSecondOrder) {
  // Data N(0, s²) in the form x = x₀ + σ ε: x̂₀ = x s² / (s² + σ²), and x goes as sqrt(s² + σ²).
  constexpr double kDeviation = 0.8;
  const auto error = [&](int64_t steps) {
    const Config config = scheduler(R"({"_class_name":"RESSampler"})");
    Schedule schedule;
    for (int64_t i = 0; i < steps; ++i) {
      const auto sigma = [&](int64_t k) { return 5 * std::pow(0.02, static_cast<double>(k) / static_cast<double>(steps)); };
      schedule.rows.push_back({sigma(i), sigma(i + 1)});
    }
    const auto solver = make_solver(config, schedule);
    const auto exact = [&](double sigma) { return std::sqrt(kDeviation * kDeviation + sigma * sigma); };
    at::Tensor x = at::full({1, 1, 1, 1, 1}, exact(5), at::kDouble);
    for (int64_t i = 0; i < steps; ++i) {
      const double sigma = schedule.rows[i].sigma;
      x = solver->step(i, x, x * (sigma / (kDeviation * kDeviation + sigma * sigma)));
    }
    return std::abs(x.item<double>() - exact(0.1));
  };
  EXPECT_NEAR(std::log2(error(40) / error(80)), 2, 0.15);
}

TEST(OriginalSolverTest, EdmEulerEqualsItsFormulas) {
  auto sigmas = karras(80, 0.0002, 9);
  sigmas.push_back(0);
  double x = 63;
  for (size_t i = 0; i + 1 < sigmas.size(); ++i) {
    const double sigma = i < 9 ? static_cast<float>(sigmas[i]) : 0;
    x += (x - predict(x, sigma)) / sigma * (static_cast<float>(sigmas[i + 1]) - sigma);
  }
  expect_equal(run(R"({"_class_name":"EDMEulerScheduler","sigma_min":0.0002})", {.steps = 9}, 63, predict), x);
}

// UniPC, order 2, bh2, predicting x₀: the order of each predictor is the order of the corrector behind it.
double unipc(const std::vector<double>& sigmas, double x) {
  const auto lambda = [&](size_t i) { return std::log(1 - sigmas[i]) - std::log(sigmas[i]); };
  const size_t steps = sigmas.size() - 1;
  double m0 = 0, m1 = 0, last = 0;
  int last_order = 0;
  for (size_t i = 0; i < steps; ++i) {
    const double m = predict(x, sigmas[i]);
    if (i > 0) {
      const double h = lambda(i) - lambda(i - 1), e = std::expm1(-h);
      double correction = 0.5 * (m - m0);
      if (last_order == 2) {
        const double r = (lambda(i - 2) - lambda(i - 1)) / h, phi = e / -h - 1, phi_next = phi / -h - 0.5;
        const double b1 = phi / e, b2 = 2 * phi_next / e, rho1 = (b2 - r * b1) / (1 - r), rho0 = b1 - rho1;
        correction = rho0 * (m1 - m0) / r + rho1 * (m - m0);
      }
      x = sigmas[i] / sigmas[i - 1] * last - (1 - sigmas[i]) * e * m0 - (1 - sigmas[i]) * e * correction;
    }
    m1 = m0, m0 = m;
    const bool second = i > 0 && i + 1 < steps;
    last = x;
    last_order = second ? 2 : 1;
    if (sigmas[i + 1] == 0) return m0;
    const double h = lambda(i + 1) - lambda(i), e = std::expm1(-h);
    double next = sigmas[i + 1] / sigmas[i] * x - (1 - sigmas[i + 1]) * e * m0;
    if (second) next -= (1 - sigmas[i + 1]) * e * 0.5 * (m1 - m0) / ((lambda(i - 1) - lambda(i)) / h);
    x = next;
  }
  return x;
}

TEST(OriginalSolverTest, FlowUniPCEqualsItsFormulas) {
  std::vector<double> shifted_grid, karras_grid;
  for (int i = 0; i < 6; ++i) {
    const double sigma = 0.999 * (1 - i / 6.0);
    shifted_grid.push_back(static_cast<float>(5 * sigma / (1 + 4 * sigma)));
  }
  for (const double sigma : karras(200, 0.01, 7)) karras_grid.push_back(static_cast<float>(sigma / (1 + sigma)));
  shifted_grid.push_back(0), karras_grid.push_back(0);
  expect_equal(run(R"({"_class_name":"FlowUniPCMultistepScheduler"})", {.steps = 6, .flow_shift = 5.0}, 1.1, predict),
               unipc(shifted_grid, 1.1));
  expect_equal(run(R"({"_class_name":"FlowUniPCMultistepScheduler","use_kerras_sigma":true})", {.steps = 6}, 1.1, predict),
               unipc(karras_grid, 1.1));
}

TEST(OriginalSolverTest, FlowUniPCTellsWholeTimes) {
  const Schedule schedule =
      make_schedule(scheduler(R"({"_class_name":"FlowUniPCMultistepScheduler","use_kerras_sigma":true})"), {.steps = 35});
  EXPECT_EQ(schedule.steps(), 36);  // as many looks as the original takes
  EXPECT_EQ(schedule.rows[0].time, 995);
  EXPECT_EQ(schedule.rows[35].time, 9);
}

TEST(OriginalSolverTest, TrigFlowEqualsItsFormulas) {
  const std::vector<double> angles = {std::numbers::pi / 2, std::atan(15.0), std::atan(5.0), std::atan(5.0 / 3), 0};
  const double noise = 0.83;
  double x = noise, clean = 0;
  for (size_t i = 0; i < 4; ++i) {
    const double sum = std::sin(angles[i]) + std::cos(angles[i]);
    clean =
        predict(x / sum, std::sin(angles[i]) / sum);  // c_in x and c_noise; c_skip x + c_out F is what predict stands for
    x = std::cos(angles[i + 1]) * clean + std::sin(angles[i + 1]) * noise;
  }
  expect_equal(run(R"({"_class_name":"TrigFlowSampler"})", {.steps = 4}, noise, predict), clean);
}

TEST(OriginalSolverTest, TrigFlowsAnglesAreAShiftedFlowGrid) {
  const Config config = scheduler(R"({"_class_name":"TrigFlowSampler"})");
  const Schedule angles = make_schedule(config, {.steps = 4}), grid = make_schedule(config, {.steps = 4, .flow_shift = 5.0});
  for (int64_t i = 0; i < 4; ++i) expect_equal(angles.rows[i].sigma, grid.rows[i].sigma);
  EXPECT_EQ(make_schedule(config, {.steps = 7}).steps(), 7);
}

TEST(OriginalSolverTest, AStepListIsShiftedAndItsLengthIsTheNumberOfSteps) {
  const Config config =
      scheduler(R"({"_class_name":"FlowMatchEulerDiscreteScheduler","denoising_step_list":[1000,750,500,250],"shift":5.0})");
  const Schedule schedule = make_schedule(config, {.steps = 4});
  const std::vector<double> sigmas = {1, 15.0 / 16, 5.0 / 6, 5.0 / 8};
  for (int64_t i = 0; i < 4; ++i) {
    expect_equal(schedule.rows[i].sigma, sigmas[i]);
    expect_equal(schedule.rows[i].time, 1000 * sigmas[i]);
  }
  EXPECT_EQ(schedule.rows[3].next, 0);
  EXPECT_THROW(make_schedule(config, {.steps = 5}), Error);
}

TEST(OriginalSolverTest, StochasticStepsDrawFromTheSeed) {
  const Config config = scheduler(R"({"_class_name":"FlowMatchEulerDiscreteScheduler","stochastic_sampling":true})");
  const Schedule schedule = make_schedule(config, {.steps = 3});
  const auto solver = make_solver(config, schedule, {.seed = 11});
  const at::Tensor x = at::full({1, 2, 2, 3, 1}, 0.5), velocity = at::full_like(x, 0.25);
  const Row& first = schedule.rows[0];
  const at::Tensor noise = latent_noise(x.sizes(), {.seed = 11, .step = 1});
  const at::Tensor expected = (x - velocity * first.sigma) * (1 - first.next) + noise * first.next;
  EXPECT_TRUE(testing::is_close(solver->step(0, x, velocity), expected, testing::kSameMath));
}

}  // namespace
}  // namespace orrery::sampling

#include "sampling/solver.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "orrery/error.h"
#include "sampling/schedule.h"
#include "support/errors.h"

namespace orrery::sampling {
namespace {

Config scheduler(const std::string& json) {
  return Config::parse(json, "scheduler_config.json");
}

// Data that is N(0, s²) at σ = 0 and mixed as x = (1 − σ) x₀ + σ ε: the exact velocity is linear in x, and so is the exact
// path.
constexpr double kDeviation = 0.7;
double spread(double sigma) {
  return std::sqrt(std::pow((1 - sigma) * kDeviation, 2) + sigma * sigma);
}

double end_error(const std::string& name, int64_t steps, int64_t order) {
  const std::string json = name == "UniPCMultistepScheduler"
                               ? R"({"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"flow_shift":1.0,
                                    "final_sigmas_type":"sigma_min","prediction_type":"flow_prediction","solver_order":)" +
                                     std::to_string(order) + ",\"lower_order_final\":false}"
                               : R"({"_class_name":"FlowMatchEulerDiscreteScheduler"})";
  const Config config = scheduler(json);
  Schedule schedule = make_schedule(config, {.steps = steps});
  // From 0.9 to 0.1: away from the ends, where the schedule itself decides the error.
  const auto sigma = [&](int64_t i) { return 0.9 - 0.8 * static_cast<double>(i) / static_cast<double>(steps); };
  schedule.rows.clear();
  for (int64_t i = 0; i < steps; ++i) schedule.rows.push_back({sigma(i), sigma(i + 1)});
  const auto solver = make_solver(config, schedule);
  at::Tensor x = at::full({1, 1, 1, 1, 1}, spread(0.9), at::kDouble);
  for (int64_t i = 0; i < steps; ++i) {
    const double s = schedule.rows[i].sigma, variance = spread(s) * spread(s);
    const double slope = (s - (1 - s) * kDeviation * kDeviation) / variance;  // d log spread / dσ
    x = solver->step(i, x, x * slope);
  }
  return std::abs(x.item<double>() - spread(0.1));
}

TEST(SolverTest, EulerIsOfFirstOrder) {
  const double order =
      std::log2(end_error("FlowMatchEulerDiscreteScheduler", 40, 1) / end_error("FlowMatchEulerDiscreteScheduler", 80, 1));
  EXPECT_NEAR(order, 1.0, 0.15);
}

TEST(SolverTest, UniPCIsAtLeastOfItsOrder) {
  for (const int64_t order : {1, 2, 3}) {
    const double measured =
        std::log2(end_error("UniPCMultistepScheduler", 40, order) / end_error("UniPCMultistepScheduler", 80, order));
    EXPECT_GT(measured, static_cast<double>(order) - 0.3) << "solver_order " << order;
  }
}

TEST(SolverTest, UniPCEndsAtItsPredictionWhereTheLastSigmaIsZero) {
  const Config config = scheduler(
      R"({"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"flow_shift":5.0,"prediction_type":"flow_prediction"})");
  const Schedule schedule = make_schedule(config, {.steps = 3});
  ASSERT_EQ(schedule.rows.back().next, 0);
  const auto solver = make_solver(config, schedule);
  const at::Tensor target = at::full({1, 2, 1, 3, 1}, 0.25, at::kFloat);
  at::Tensor x = at::ones_like(target);
  for (int64_t i = 0; i < 3; ++i) x = solver->step(i, x, (x - target) / schedule.rows[i].sigma);
  EXPECT_LT((x - target).abs().max().item<float>(), 1e-5);
}

TEST(ScheduleTest, UnknownSchedulerListsTheKnown) {
  const std::string message =
      testing::error_of([] { make_schedule(scheduler(R"({"_class_name":"DDIMScheduler"})"), {}); }, ErrorKind::kUnsupported);
  EXPECT_NE(message.find("UniPCMultistepScheduler"), std::string::npos) << message;
}

TEST(ScheduleTest, NoStepsIsAnError) {
  EXPECT_THROW(make_schedule(scheduler(R"({"_class_name":"EDMEulerScheduler"})"), {.steps = 0}), Error);
}

TEST(ScheduleTest, OneStepGoesFromTheTopToTheEnd) {
  const Schedule schedule = make_schedule(scheduler(R"({"_class_name":"EDMEulerScheduler"})"), {.steps = 1});
  ASSERT_EQ(schedule.steps(), 1);
  EXPECT_EQ(schedule.rows[0].sigma, 80);
  EXPECT_EQ(schedule.rows[0].next, 0);
}

TEST(ScheduleTest, FlowShiftReplacesTheFolders) {
  const Config config = scheduler(R"({"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"flow_shift":1.0})");
  const Schedule plain = make_schedule(config, {.steps = 4}),
                 shifted = make_schedule(config, {.steps = 4, .flow_shift = 5.0});
  const double sigma = plain.rows[2].sigma;
  EXPECT_NEAR(shifted.rows[2].sigma, 5 * sigma / (1 + 4 * sigma), 1e-6);
}

}  // namespace
}  // namespace orrery::sampling

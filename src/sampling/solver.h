#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "orrery/config.h"
#include "sampling/noise.h"
#include "sampling/schedule.h"

namespace orrery::sampling {

/// Advances a sample along a schedule. One object is one run: it remembers what a multistep method looks back on.
/// Every solver takes the velocity dx/dσ, so that a model's preconditioning stays with the model: x̂₀ = x − σ · velocity.
class Solver {
 public:
  /// `noise` is where rows that draw anew draw from.
  explicit Solver(Schedule schedule, NoiseKey noise = {}) : schedule_(std::move(schedule)), noise_(noise) {}
  virtual ~Solver() = default;
  /// Through row `index`; rows come in order, from 0. All tensors float32 of one shape [B,C,t,h,w].
  at::Tensor step(int64_t index, const at::Tensor& sample, const at::Tensor& velocity);

 protected:
  /// A row of mode kSolve.
  virtual at::Tensor solve(int64_t index, const at::Tensor& sample, const at::Tensor& velocity) = 0;
  const Row& row(int64_t index) const { return schedule_.rows[static_cast<size_t>(index)]; }
  int64_t steps() const { return schedule_.steps(); }

 private:
  Schedule schedule_;
  NoiseKey noise_;
  at::Tensor first_;  // the sample that the run began with
};

/// x + (σ' − σ) · velocity: EDMEulerScheduler and FlowMatchEulerDiscreteScheduler are both this.
class EulerSolver final : public Solver {
 public:
  using Solver::Solver;

 private:
  at::Tensor solve(int64_t index, const at::Tensor& sample, const at::Tensor& velocity) override;
};

/// The refined exponential solver's two-step Adams-Bashforth (Zhang et al. 2023), in float64 over −ln σ; its first step is
/// Euler's.
class Ab2Solver final : public Solver {
 public:
  using Solver::Solver;

 private:
  at::Tensor solve(int64_t index, const at::Tensor& sample, const at::Tensor& velocity) override;
  at::Tensor last_clean_;  // x̂₀ of the row before
};

/// UniPC (Zhao et al. 2023) in its data-predicting form on α = 1 − σ: a corrector of the last step, then a predictor of the
/// next.
class UniPCSolver final : public Solver {
 public:
  struct Options {
    int64_t order = 2;              ///< 1 to 3
    bool bh2 = true;                ///< B(h) = e^h − 1; else B(h) = h
    bool lower_order_final = true;  ///< the last steps take lower orders
    std::vector<int64_t> disable_corrector;
  };
  UniPCSolver(Schedule schedule, Options options) : Solver(std::move(schedule)), options_(std::move(options)) {}

 private:
  at::Tensor solve(int64_t index, const at::Tensor& sample, const at::Tensor& velocity) override;
  struct Coefficients;
  Coefficients coefficients(int64_t from, int64_t to, int64_t order) const;
  at::Tensor advance(const at::Tensor& sample, const Coefficients& c, const std::vector<double>& rhos,
                     const at::Tensor& newest) const;

  Options options_;
  std::deque<at::Tensor> outputs_;  // x̂₀ of the last steps, newest first
  at::Tensor last_sample_;
  int64_t last_order_ = 0;
};

/// The solver a scheduler_config.json asks for.
std::unique_ptr<Solver> make_solver(const Config& scheduler, const Schedule& schedule, const NoiseKey& noise = {});

}  // namespace orrery::sampling

#include "sampling/solver.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "ops/dispatch.h"
#include "ops/sampler_step.h"
#include "orrery/error.h"

namespace orrery::sampling {
namespace {

// Solves A x = b for the few unknowns of a multistep rule (Gauss with pivoting).
std::vector<double> solve_linear(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t column = 0; column < n; ++column) {
    size_t pivot = column;
    for (size_t row = column + 1; row < n; ++row)
      if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
    std::swap(a[column], a[pivot]);
    std::swap(b[column], b[pivot]);
    for (size_t row = 0; row < n; ++row) {
      if (row == column) continue;
      const double factor = a[row][column] / a[column][column];
      for (size_t k = column; k < n; ++k) a[row][k] -= factor * a[column][k];
      b[row] -= factor * b[column];
    }
  }
  for (size_t i = 0; i < n; ++i) b[i] /= a[i][i];
  return b;
}

// Whether a device's own kernel can take a step of these.
bool in_one_pass(const at::Tensor& sample, const at::Tensor& velocity) {
  return ops::on_device_with_kernels(sample) && sample.scalar_type() == at::kFloat && sample.dim() == 5 &&
         sample.is_contiguous() && velocity.sizes() == sample.sizes() && velocity.is_contiguous() &&
         ops::on_device_with_kernels(velocity);
}

// log(α / σ) with α = 1 − σ; infinite at σ = 0.
double log_snr(double sigma) {
  return std::log(1 - sigma) - std::log(sigma);
}

}  // namespace

at::Tensor Solver::step(int64_t index, const at::Tensor& sample, const at::Tensor& velocity) {
  if (index == 0) first_ = sample;
  const Row& here = row(index);
  if (here.mode == RowMode::kSolve) return solve(index, sample, velocity);
  NoiseKey key = noise_;
  key.step = static_cast<uint32_t>(index) + 1;
  if (here.mode != RowMode::kClean && here.mode != RowMode::kSameNoise && in_one_pass(sample, velocity)) {
    const auto kept = static_cast<float>(1 - here.next);
    return ops::sampler_step(
        sample, velocity, {},
        {.of_sample = kept, .of_output = -kept * static_cast<float>(here.sigma), .of_noise = static_cast<float>(here.next)},
        {.seed = key.seed, .frame = key.frame, .step = key.step});
  }
  const at::Tensor clean = at::sub(sample, velocity, here.sigma);
  if (here.mode == RowMode::kClean) return clean;
  const at::Tensor noise = here.mode == RowMode::kSameNoise ? first_ : latent_noise(sample.sizes(), key, sample.device());
  return clean * (1 - here.next) + noise * here.next;
}

at::Tensor EulerSolver::solve(int64_t index, const at::Tensor& sample, const at::Tensor& velocity) {
  const double way = row(index).next - row(index).sigma;
  if (in_one_pass(sample, velocity)) return ops::sampler_step(sample, velocity, {}, {.of_output = static_cast<float>(way)});
  return at::add(sample, velocity, way);
}

at::Tensor Ab2Solver::solve(int64_t index, const at::Tensor& sample, const at::Tensor& velocity) {
  const double sigma = row(index).sigma, next = row(index).next;
  const at::Tensor x = sample.to(at::kDouble), clean = x - velocity.to(at::kDouble) * sigma;
  at::Tensor advanced;
  if (!last_clean_.defined()) {
    advanced = clean * ((sigma - next) / sigma) + x * (next / sigma);
  } else {
    const double dt = std::log(sigma / next), c2 = std::log(sigma / row(index - 1).sigma) / dt;
    const double phi_1 = std::expm1(-dt) / -dt, phi_2 = (phi_1 - 1) / -dt;
    advanced = x * std::exp(-dt) + (clean * (phi_1 - phi_2 / c2) + last_clean_ * (phi_2 / c2)) * dt;
  }
  last_clean_ = clean;
  return advanced.to(sample.scalar_type());
}

// One step of a given order between two rows: everything that does not depend on the sample.
struct UniPCSolver::Coefficients {
  double ratio = 0;       // σ_to / σ_from
  double alpha = 0;       // 1 − σ_to
  double phi_1 = 0;       // e^{−h} − 1
  double b_h = 0;         // B(h)
  std::vector<double> r;  // λ-distance of each older output, in units of h
  std::vector<std::vector<double>> matrix;
  std::vector<double> rhs;
};

UniPCSolver::Coefficients UniPCSolver::coefficients(int64_t from, int64_t to, int64_t order) const {
  const auto sigma = [&](int64_t index) { return index < steps() ? row(index).sigma : row(index - 1).next; };
  const double lambda = log_snr(sigma(from));
  const double h = log_snr(sigma(to)) - lambda;
  Coefficients c;
  c.ratio = sigma(to) / sigma(from);
  c.alpha = 1 - sigma(to);
  c.phi_1 = std::expm1(-h);
  c.b_h = options_.bh2 ? c.phi_1 : -h;
  for (int64_t i = 1; i < order; ++i) c.r.push_back((log_snr(sigma(from - i)) - lambda) / h);

  std::vector<double> nodes = c.r;
  nodes.push_back(1);
  double phi = c.phi_1 / -h - 1, factorial = 1;
  for (int64_t i = 1; i <= order; ++i) {
    std::vector<double> row;
    for (double node : nodes) row.push_back(std::pow(node, static_cast<double>(i - 1)));
    c.matrix.push_back(row);
    c.rhs.push_back(phi * factorial / c.b_h);
    factorial *= static_cast<double>(i + 1);
    phi = phi / -h - 1 / factorial;
  }
  return c;
}

// x ← ratio · x − α (e^{−h} − 1) m₀ − α B(h) Σ ρ_k D_k, with D of the older outputs and, where `newest` is there, its own.
at::Tensor UniPCSolver::advance(const at::Tensor& sample, const Coefficients& c, const std::vector<double>& rhos,
                                const at::Tensor& newest) const {
  const at::Tensor& m0 = outputs_.front();
  at::Tensor next = sample * c.ratio - m0 * (c.alpha * c.phi_1);
  for (size_t k = 0; k < c.r.size(); ++k) next.sub_(outputs_[k + 1] - m0, c.alpha * c.b_h * rhos[k] / c.r[k]);
  if (newest.defined()) next.sub_(newest - m0, c.alpha * c.b_h * rhos.back());
  return next;
}

at::Tensor UniPCSolver::solve(int64_t index, const at::Tensor& given, const at::Tensor& velocity) {
  const at::Tensor output = at::sub(given, velocity, row(index).sigma);  // x̂₀
  at::Tensor sample = given;
  const auto& off = options_.disable_corrector;
  if (last_sample_.defined() && std::find(off.begin(), off.end(), index - 1) == off.end()) {
    const Coefficients c = coefficients(index - 1, index, last_order_);
    const auto rhos = last_order_ == 1 ? std::vector<double>{0.5} : solve_linear(c.matrix, c.rhs);
    sample = advance(last_sample_, c, rhos, output);
  }
  outputs_.push_front(output);
  if (static_cast<int64_t>(outputs_.size()) > options_.order) outputs_.pop_back();

  int64_t order = options_.order;
  if (options_.lower_order_final) order = std::min(order, steps() - index);
  order = std::min<int64_t>(order, index + 1);
  const Coefficients c = coefficients(index, index + 1, order);
  std::vector<double> rhos;
  if (order == 2) rhos = {0.5};
  if (order > 2) {
    auto matrix = c.matrix;
    matrix.pop_back();
    for (auto& each : matrix) each.pop_back();
    rhos = solve_linear(matrix, {c.rhs.begin(), c.rhs.end() - 1});
  }
  last_sample_ = sample;
  last_order_ = order;
  return advance(sample, c, rhos, {});
}

std::unique_ptr<Solver> make_solver(const Config& scheduler, const Schedule& schedule, const NoiseKey& noise) {
  const auto name = scheduler.require<std::string>("_class_name");
  if (name == "RESSampler" || name == "RectifiedFlowAB2Scheduler") return std::make_unique<Ab2Solver>(schedule, noise);
  if (name == "FlowUniPCMultistepScheduler") return std::make_unique<UniPCSolver>(schedule, UniPCSolver::Options{});
  if (name != "UniPCMultistepScheduler") return std::make_unique<EulerSolver>(schedule, noise);
  const auto order = scheduler.get<int64_t>("solver_order", 2);
  const auto prediction = scheduler.get<std::string>("prediction_type", "epsilon");
  if (order < 1 || order > 3 || prediction != "flow_prediction" || !scheduler.get<bool>("predict_x0", true))
    throw Error(ErrorKind::kUnsupported,
                {.place = scheduler.place(),
                 .what = "asks for a form of UniPC that is not known",
                 .expected = "solver_order 1 to 3, prediction_type flow_prediction, predict_x0 true",
                 .got = "solver_order " + std::to_string(order) + ", prediction_type " + prediction});
  return std::make_unique<UniPCSolver>(
      schedule, UniPCSolver::Options{.order = order,
                                     .bh2 = scheduler.get<std::string>("solver_type", "bh2") != "bh1",
                                     .lower_order_final = scheduler.get<bool>("lower_order_final", true),
                                     .disable_corrector = scheduler.get<std::vector<int64_t>>("disable_corrector", {})});
}

}  // namespace orrery::sampling

#include "flops.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <ATen/record_function.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string_view>

#include "program.h"

namespace program {
namespace {

// What the callbacks of one count share; LibTorch gives them no other way to know it.
struct Count {
  double flops = 0;
  int depth = 0;  // inside an operation that is counted already, others are not counted again
};
thread_local Count* current = nullptr;

// One counted operation while it runs: operations for each element of its output.
struct Counted final : at::ObserverContext {
  explicit Counted(double per_output) : per_output(per_output) {}
  double per_output;
};

// Operations for each element of the output; 0 for what is not counted.
double per_output_element(std::string_view name, c10::ArrayRef<const c10::IValue> inputs) {
  const auto size = [&](size_t input, int64_t dim) { return static_cast<double>(inputs[input].toTensor().size(dim)); };
  if (name == "aten::convolution" || name == "aten::mkldnn_convolution" || name == "orrery::winograd_3x3") {
    const at::Tensor& weight = inputs[1].toTensor();
    return 2 * static_cast<double>(weight.numel()) / static_cast<double>(std::max<int64_t>(weight.size(0), 1));
  }
  if (name == "orrery::matmul") return 2 * size(0, -1);
  if (name == "aten::mm" || name == "aten::bmm") return 2 * size(0, -1);
  if (name == "aten::addmm" || name == "aten::baddbmm") return 2 * size(1, -1);
  // Two products of N queries with L keys; the output has the queries' size.
  if (name == "aten::scaled_dot_product_attention") return 4 * size(1, -2);
  return 0;
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& operation) {
  if (!current || current->depth > 0) return nullptr;
  const double per_output = per_output_element(operation.name(), operation.inputs());
  if (per_output == 0) return nullptr;
  ++current->depth;
  return std::make_unique<Counted>(per_output);
}

void end(const at::RecordFunction& operation, at::ObserverContext* context) {
  const auto* counted = static_cast<Counted*>(context);
  if (!counted || !current) return;
  --current->depth;
  if (!operation.outputs().empty() && operation.outputs().front().isTensor())
    current->flops += counted->per_output * static_cast<double>(operation.outputs().front().toTensor().numel());
}

}  // namespace

double count_flops(const std::function<void()>& work) {
  Count count;
  current = &count;
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(begin, end).needsInputs(true).needsOutputs(true));
  // What ends the count, however the work ends.
  const std::unique_ptr<Count, std::function<void(Count*)>> stop(&count, [&](Count*) {
    at::removeCallback(handle);
    current = nullptr;
  });
  work();
  return count.flops;
}

double measured_peak_flops() {
  const c10::InferenceMode inference;
  constexpr int64_t kSide = 1024;
  const at::Tensor a = at::rand({kSide, kSide}), b = at::rand({kSide, kSide});
  double best = std::numeric_limits<double>::infinity();
  const Stopwatch all;
  for (int i = 0; i < 3 || (all.seconds() < 0.7 && i < 50); ++i) {
    const Stopwatch one;
    at::mm(a, b);
    best = std::min(best, one.seconds());
  }
  return 2.0 * kSide * kSide * kSide / best;
}

}  // namespace program

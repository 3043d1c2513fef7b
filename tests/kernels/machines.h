#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "support/compare.h"
#include "support/errors.h"

namespace orrery::testing {

/// Brings an operand to a machine; undefined tensors stay so.
using Bring = std::function<at::Tensor(const at::Tensor&)>;
/// Calls an op with operands that were brought to where it shall run.
using Op = std::function<at::Tensor(const Bring& on)>;

/// Something that runs kernels: the CPU's twin, the emulation under an order of threads, the interpreter of nvcc's PTX, a GPU.
struct Machine {
  std::string name;
  std::function<at::Tensor(const Op&)> run;  ///< the op's result there, on the CPU
};

/// Those that ORRERY_KERNEL_MACHINES names: "cpu" (the twins and the emulation; also if it is not set), "ptx" or "gpu".
const std::vector<Machine>& machines();
/// Why the wanted machines cannot be had; empty if they can. Then all tests are skipped with this reason.
const std::string& why_no_machines();

/// How near a kernel that computes in float32 and rounds its result to `type` comes to the formula in float64, rounded so
/// too. bfloat16 has its own line, 2⁻⁸: the weights of a softmax are rounded to it on their way to the tensor cores.
Tolerance rounding_of(at::ScalarType type);

/// `op` on every machine against `expected` (float64, or the exact result): EXPECTs closeness.
void expect_on_all_machines(const at::Tensor& expected, const Op& op);

/// A vector of zeros of any length whose memory is only promised: pages come when they are touched.
at::Tensor sparse(int64_t count, at::ScalarType type = at::kFloat);

}  // namespace orrery::testing

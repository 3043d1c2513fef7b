#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/common/numbers.h"

namespace orrery::ops {

/// What every op does with its operands before a kernel sees a pointer. All throw Error(kArgument) with the place
/// "<op>: <operand>".
class Operands {
 public:
  explicit Operands(std::string op) : op_(std::move(op)) {}

  /// The operand that decides device and dtype; `types` are those that the op has kernels for. It must not be undefined.
  Operands& first(const char* name, const at::Tensor& tensor, std::vector<at::ScalarType> types);
  /// Another operand on the same device, of the given dtype and shape (−1: any size).
  Operands& also(const char* name, const at::Tensor& tensor, at::ScalarType type, std::vector<int64_t> shape);
  /// The elements of the last dimension must be neighbours in memory.
  Operands& rows(const char* name, const at::Tensor& tensor);
  /// Everything must be neighbours in memory.
  Operands& contiguous(const char* name, const at::Tensor& tensor);
  /// What a kernel on the GPU reads in groups of `elements`: the first element and every row begin at a multiple of that
  /// many.
  Operands& aligned(const char* name, const at::Tensor& tensor, int64_t elements);
  /// Says what is wrong with one operand, unless `good`.
  Operands& require(bool good, const char* name, const char* what, const std::string& expected, const std::string& got);

  const std::string& op() const { return op_; }
  /// Whether a CUDA kernel has to be used.
  bool on_gpu() const;
  /// Starts the CUDA kernel behind a symbol of liborrery_cuda.so on the device's current stream. A CUDA error becomes an
  /// Error(kDevice) that names the op and the kernel; the process lives.
  template <class P>
  void run_on_gpu(const char* symbol, const P& parameters) const {
    run(symbol, &parameters);
  }

 private:
  void run(const char* symbol, const void* parameters) const;

  std::string op_;
  c10::Device device_{c10::kCPU};
};

/// Whether our kernels run on what lies where `x` does, in its dtype (float32, bfloat16, float16). Never so on the CPU: what
/// asks has another way there. On a GPU not so where liborrery_cuda.so was not built; LibTorch's operators then do.
bool on_device_with_kernels(const at::Tensor& x);

/// The kernels' name of a dtype that they know.
kernels::Number number_of(at::ScalarType type);

/// As parallel_for of LibTorch over [0, count), in pieces of at least `grain`.
void spread(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& piece);

/// Tests only: while it lives, ops of this thread take `find` for the CUDA library and send every tensor to it, those of the
/// CPU too. This is how the emulation, the PTX interpreter and a GPU run one test.
class ScopedKernels {
 public:
  using Find = void* (*)(const char* symbol);
  explicit ScopedKernels(Find find);
  ~ScopedKernels();
  ScopedKernels(const ScopedKernels&) = delete;

 private:
  Find outer_;
};

/// Tests only: from now on, in all threads, ops take `find` for the CUDA library of devices of this type.
void lend_kernels(c10::DeviceType type, ScopedKernels::Find find);

}  // namespace orrery::ops

#include "ops/dispatch.h"

#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <atomic>
#include <sstream>

#include "ops/cuda_library.h"
#include "orrery/error.h"

namespace orrery::ops {
namespace {

thread_local ScopedKernels::Find replacement = nullptr;
std::atomic<ScopedKernels::Find> lent = nullptr;
std::atomic<c10::DeviceType> lent_to = c10::DeviceType::CPU;

ScopedKernels::Find lent_for(c10::Device device) {
  return device.type() == lent_to ? lent.load() : nullptr;
}

template <class List>
std::string text_of(const List& list) {
  std::ostringstream text;
  const char* between = "[";
  for (const auto& item : list) {
    text << between << item;
    between = ", ";
  }
  if (list.begin() == list.end()) text << "[";
  text << "]";
  return text.str();
}

// What to do about a CUDA error, by its number (cudaError_t).
const char* remedy_of(int error) {
  switch (error) {
    case 1:  // invalid value, invalid configuration
    case 9: return "it was given more than a GPU can count: use fewer frames at once, or a smaller size";
    case 2: return "the device is full: stream the blocks (--max-memory), use fewer frames at once, or tiles (--tile)";
    case 35: return "the driver is older than the CUDA that this library was built with: update it, or use --device cpu";
    case 98:   // invalid device function
    case 209:  // no image of the kernel for this GPU
    case 222: return "a GPU of compute capability 8.0 or newer is needed; or use --device cpu";
    default:
      return "an earlier kernel may have done it: CUDA_LAUNCH_BLOCKING=1 names it. CUDA is of no more use to this process, "
             "the device cpu still is";
  }
}

}  // namespace

Operands& Operands::require(bool good, const char* name, const char* what, const std::string& expected,
                            const std::string& got) {
  if (good) return *this;
  throw Error(ErrorKind::kArgument, {.place = op_ + ": " + name, .what = what, .expected = expected, .got = got});
}

Operands& Operands::first(const char* name, const at::Tensor& tensor, std::vector<at::ScalarType> types) {
  require(tensor.defined(), name, "is missing", "a tensor", "none");
  const bool known = std::find(types.begin(), types.end(), tensor.scalar_type()) != types.end();
  require(known, name, "has a dtype that the op has no kernel for", text_of(types), at::toString(tensor.scalar_type()));
  require(tensor.is_cpu() || tensor.is_cuda() || lent_for(tensor.device()), name, "is on a device without kernels",
          "cpu or cuda", tensor.device().str());
  device_ = tensor.device();
  return *this;
}

Operands& Operands::also(const char* name, const at::Tensor& tensor, at::ScalarType type, std::vector<int64_t> shape) {
  require(tensor.defined(), name, "is missing", "a tensor", "none");
  require(tensor.device() == device_, name, "is on another device", device_.str(), tensor.device().str());
  require(tensor.scalar_type() == type, name, "has the wrong dtype", at::toString(type), at::toString(tensor.scalar_type()));
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; fits && i < shape.size(); ++i)
    fits = shape[i] == -1 || shape[i] == tensor.size(static_cast<int64_t>(i));
  return require(fits, name, "has the wrong shape", text_of(shape), text_of(tensor.sizes()));
}

Operands& Operands::rows(const char* name, const at::Tensor& tensor) {
  return require(tensor.dim() > 0 && (tensor.size(-1) <= 1 || tensor.stride(-1) == 1), name,
                 "must have the elements of its last dimension side by side", "a last stride of 1",
                 text_of(tensor.strides()));
}

Operands& Operands::contiguous(const char* name, const at::Tensor& tensor) {
  return require(tensor.is_contiguous(), name, "must be contiguous", "row-major strides", text_of(tensor.strides()));
}

Operands& Operands::aligned(const char* name, const at::Tensor& tensor, int64_t elements) {
  if (!on_gpu() || tensor.numel() == 0) return *this;
  const auto bytes = static_cast<uintptr_t>(elements) * tensor.element_size();
  bool good = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % bytes == 0;
  for (int64_t dim = 0; dim + 1 < tensor.dim(); ++dim)
    good = good && (tensor.size(dim) <= 1 || tensor.stride(dim) % elements == 0);
  return require(good, name, "is not aligned for the GPU",
                 "a beginning, and rows, at multiples of " + std::to_string(bytes) + " bytes",
                 "strides " + text_of(tensor.strides()) + " from element " + std::to_string(tensor.storage_offset()));
}

bool Operands::on_gpu() const {
  return replacement != nullptr || !device_.is_cpu();
}

void Operands::run(const char* symbol, const void* parameters) const {
  const c10::OptionalDeviceGuard guard(device_.is_cuda() ? std::optional(device_) : std::nullopt);
  void* stream = nullptr;
  void* address = nullptr;
  const ScopedKernels::Find find = replacement ? replacement : lent_for(device_);
  if (find) {
    address = find(symbol);
    if (!address) throw Error(ErrorKind::kUnsupported, {.place = op_, .what = std::string("there is no kernel ") + symbol});
  } else {
    address = cuda_symbol(symbol, op_.c_str());
    stream = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_).native_handle();
  }
  const int error = reinterpret_cast<int (*)(const void*, void*)>(address)(parameters, stream);
  if (error == 0) return;
  std::string text = "CUDA error " + std::to_string(error);
  if (!find) {
    const auto describe = reinterpret_cast<const char* (*)(int)>(cuda_symbol("orrery_cuda_error_text", op_.c_str()));
    text += std::string(": ") + describe(error);
  }
  throw Error(ErrorKind::kDevice, {.place = op_,
                                   .what = std::string("the kernel ") + symbol + " could not be started",
                                   .got = text,
                                   .hint = remedy_of(error)});
}

kernels::Number number_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return kernels::Number::kFloat32;
    case at::kBFloat16: return kernels::Number::kBFloat16;
    case at::kHalf: return kernels::Number::kFloat16;
    case at::kChar: return kernels::Number::kInt8;
    case at::ScalarType::Float8_e4m3fn: return kernels::Number::kFloat8;
    default:
      throw Error(ErrorKind::kArgument, {.place = "dtype", .what = "kernels do not know it", .got = at::toString(type)});
  }
}

void spread(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& piece) {
  at::parallel_for(0, count, std::max<int64_t>(1, grain), piece);
}

bool on_device_with_kernels(const at::Tensor& x) {
  if (x.is_cpu() || (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16 && x.scalar_type() != at::kHalf))
    return false;
  return lent_for(x.device()) != nullptr || (x.is_cuda() && has_cuda_library());
}

void lend_kernels(c10::DeviceType type, ScopedKernels::Find find) {
  lent = find;
  lent_to = type;
}

ScopedKernels::ScopedKernels(Find find) : outer_(replacement) {
  replacement = find;
}
ScopedKernels::~ScopedKernels() {
  replacement = outer_;
}

}  // namespace orrery::ops

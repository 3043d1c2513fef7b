#include "support/far_device.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "ops/dispatch.h"
#include "support/far_streams.h"

namespace orrery::testing {
namespace {

constexpr c10::DeviceType kFar = c10::DeviceType::PrivateUse1;

// Pages mapped twice: "far", which nobody may read or write, and "near", through which the device itself works.
struct Block {
  char* far;
  char* near;
  size_t bytes;
  FarOrder::Uses uses;
};

class FarMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::Device(kFar, 0)};
    {
      const std::lock_guard lock(mutex_);
      TORCH_CHECK_WITH(OutOfMemoryError, limit_ == 0 || held_ + bytes <= limit_,
                       "far device out of memory. Tried to allocate ", bytes, " bytes");
    }
    const int file = memfd_create("far", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) throw std::bad_alloc();
    void* near = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    void* far = mmap(nullptr, bytes, PROT_NONE, MAP_SHARED, file, 0);
    close(file);
    if (near == MAP_FAILED || far == MAP_FAILED) throw std::bad_alloc();
    const std::lock_guard lock(mutex_);
    blocks_[static_cast<char*>(far)] = {static_cast<char*>(far), static_cast<char*>(near), bytes, far_order().allocated()};
    held_ += bytes;
    peak_ = std::max(peak_, held_);
    return {far, far, &release, c10::Device(kFar, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    memcpy(near(static_cast<char*>(to), true), near(static_cast<char*>(const_cast<void*>(from))), bytes);
  }
  // Runs `work`, a kernel of the device, which alone may use "far" addresses. Nobody else allocates meanwhile.
  int run(const std::function<int()>& work) {
    const std::lock_guard lock(mutex_);
    const Opened opened(blocks_);
    return work();
  }
  char* near(char* far, bool writes = false) const {
    const std::lock_guard lock(mutex_);
    const auto after = blocks_.upper_bound(far);
    TORCH_CHECK(after != blocks_.begin(), "an address that is not this device's");
    Block& block = std::prev(after)->second;
    far_order().touch(block.uses, writes);
    return block.near + (far - block.far);
  }
  size_t take_peak() {
    const std::lock_guard lock(mutex_);
    return std::exchange(peak_, held_);
  }
  void limit(size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
  }

 private:
  static void release(void* far);
  struct Opened {
    explicit Opened(const std::map<char*, Block>& all) : blocks(all) {
      for (const auto& [far, block] : blocks) mprotect(far, block.bytes, PROT_READ | PROT_WRITE);
    }
    ~Opened() {
      for (const auto& [far, block] : blocks) mprotect(far, block.bytes, PROT_NONE);
    }
    const std::map<char*, Block>& blocks;
  };

  mutable std::mutex mutex_;
  mutable std::map<char*, Block> blocks_;
  size_t held_ = 0, peak_ = 0, limit_ = 0;
};

FarMemory& memory() {
  static auto* made = new FarMemory;  // outlives every tensor
  return *made;
}

void FarMemory::release(void* far) {
  FarMemory& all = memory();
  const std::lock_guard lock(all.mutex_);
  const Block block = all.blocks_.extract(static_cast<char*>(far)).mapped();
  all.held_ -= block.bytes;
  far_order().released(block.uses);
  munmap(block.far, block.bytes);
  munmap(block.near, block.bytes);
}

// The same memory as a tensor of the processor's.
at::Tensor near(const at::Tensor& tensor, bool writes = false) {
  if (!tensor.defined() || tensor.device().type() != kFar) return tensor;
  const auto options = tensor.options().device(at::kCPU);
  if (tensor.numel() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  char* begin = static_cast<char*>(const_cast<void*>(tensor.storage().data()));
  return at::from_blob(memory().near(begin, writes) + tensor.storage_offset() * tensor.element_size(), tensor.sizes(),
                       tensor.strides(), options);
}

// Operations that the processor stands in for copy too, which no GPU would.
thread_local int standing_in = 0;
struct StandsIn {
  StandsIn() { ++standing_in; }
  ~StandsIn() { --standing_in; }
};

at::Tensor far(const at::Tensor& tensor) {
  const StandsIn processor;
  return tensor.to(far_device());
}

// As on a GPU: what an operation is given lies here, but for single numbers.
void require_far(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(!tensor.defined() || tensor.dim() == 0 || tensor.device().type() == kFar,
              "Expected all tensors to be on the same device, but ", name, " was given one on ", tensor.device());
}

c10::DispatchKeySet key() {
  return c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory(), key(), c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory(), key(), c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool without_waiting) {
  const bool up = from.is_cpu(), pinned = up && reads_by_itself(from.const_data_ptr());
  // As LibTorch on a GPU: the host goes on at once only if it says so, and the device reads the memory by itself.
  if (standing_in == 0 && (to.is_cpu() || (up && !(pinned && without_waiting)))) far_order().host_waits();
  if (standing_in == 0 && up) far_order().uploaded(static_cast<int64_t>(from.nbytes()), pinned);
  near(to, true).copy_(near(from));
  return to;
}

const at::Tensor& resized(const at::Tensor& tensor, c10::IntArrayRef size, std::optional<at::MemoryFormat>) {
  if (tensor.sizes() == size) return tensor;  // also a slice of something larger, which keeps its strides
  c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  const size_t bytes = tensor.numel() * tensor.element_size();
  const c10::Storage& storage = impl->unsafe_storage();
  if (storage.nbytes() < bytes) {
    storage.set_data_ptr_noswap(memory().allocate(bytes));
    storage.set_nbytes(bytes);
  }
  return tensor;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  return copy_from(from, resized(to, from.sizes(), {}), false);
}

at::Scalar local_scalar(const at::Tensor& tensor) {
  far_order().host_waits();
  return near(tensor).item();
}

// These have no general form for a device that LibTorch does not know.
at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                       c10::IntArrayRef output_padding, int64_t groups) {
  for (const at::Tensor& given : {x, weight, bias.value_or(at::Tensor())}) require_far(given, "convolution");
  const auto near_bias = bias && bias->defined() ? std::optional(near(*bias)) : std::nullopt;
  return far(
      at::convolution(near(x), near(weight), near_bias, stride, padding, dilation, transposed, output_padding, groups));
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const std::optional<at::Tensor>& mask, double dropout, bool causal, std::optional<double> scale,
                     bool grouped) {
  for (const at::Tensor& given : {query, key, value, mask.value_or(at::Tensor())}) require_far(given, "attention");
  const auto near_mask = mask && mask->defined() ? std::optional(near(*mask)) : std::nullopt;
  return far(
      at::scaled_dot_product_attention(near(query), near(key), near(value), near_mask, dropout, causal, scale, grouped));
}

at::Tensor gru_cell(const at::Tensor& input, const at::Tensor& hidden, const at::Tensor& w_ih, const at::Tensor& w_hh,
                    const std::optional<at::Tensor>& b_ih, const std::optional<at::Tensor>& b_hh) {
  for (const at::Tensor& given : {input, hidden, w_ih, w_hh, *b_ih, *b_hh}) require_far(given, "gru_cell");
  return far(at::gru_cell(near(input), near(hidden), near(w_ih), near(w_hh), near(*b_ih), near(*b_hh)));
}

void everything_else(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const StandsIn processor;
  const std::string& name = op.schema().name();
  const bool indexes =
      name == "aten::index" || name.starts_with("aten::index_put");  // whose indices may lie with the processor
  for (const c10::IValue& given : torch::jit::last(*stack, indexes ? 0 : op.schema().arguments().size())) {
    if (given.isTensor()) require_far(given.toTensor(), name.c_str());
    if (given.isTensorList())
      for (const at::Tensor& each : given.toTensorVector()) require_far(each, name.c_str());
  }
  at::native::cpu_fallback(op, stack);
}

std::mutex launches_mutex;
std::map<std::string, int64_t> launches;
thread_local int (*kernel)(const void*, void*) = nullptr;

int launch(const void* parameters, void* stream) {
  return memory().run([&] { return kernel(parameters, stream); });
}

// The emulation of tests/simt is the device's processor.
void* find_kernel(const char* symbol) {
  kernel = reinterpret_cast<int (*)(const void*, void*)>(dlsym(RTLD_DEFAULT, symbol));
  if (!kernel) return nullptr;
  const std::lock_guard lock(launches_mutex);
  ++launches[symbol];
  return reinterpret_cast<void*>(&launch);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&everything_else>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &local_scalar);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", static_cast<at::Tensor (*)(const at::Tensor&, at::IntArrayRef)>(&at::native::view));
  library.impl("unfold", &at::native::unfold);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("resize_", &resized);
  library.impl("gru_cell", &gru_cell);
  library.impl("convolution_overrideable", &convolution);
  library.impl("scaled_dot_product_attention", &attention);
}

}  // namespace

c10::Device far_device() {
  if (const char* real = std::getenv("ORRERY_FAR_DEVICE")) {
    static const bool ready = [] {
      const bool loaded = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr;
      at::globalContext().setAllowTF32CuDNN(false);  // what is compared is float32
      return loaded;
    }();
    TORCH_CHECK(ready, "LibTorch's CUDA library cannot be loaded: ", dlerror());
    const c10::Device device(real);
    return device.has_index() ? device : c10::Device(device.type(), 0);
  }
  static const bool registered = [] {
    c10::SetAllocator(kFar, &memory());
    register_far_streams();
    ops::lend_kernels(kFar, &find_kernel);
    return true;
  }();
  return registered ? c10::Device(kFar, 0) : c10::Device(at::kCPU);
}

int64_t take_far_peak() {
  return static_cast<int64_t>(memory().take_peak());
}

std::map<std::string, int64_t> take_far_launches() {
  const std::lock_guard lock(launches_mutex);
  return std::exchange(launches, {});
}

void limit_far_memory(int64_t bytes) {
  memory().limit(static_cast<size_t>(bytes));
}

}  // namespace orrery::testing

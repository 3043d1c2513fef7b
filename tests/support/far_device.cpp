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

#include "kernels/cached_conv3d.h"
#include "kernels/frames.h"
#include "kernels/fsq.h"
#include "kernels/int8_attention.h"
#include "kernels/modulated_norm.h"
#include "kernels/paged_attention.h"
#include "kernels/patch.h"
#include "kernels/qk_norm_rope.h"
#include "kernels/quantized_linear.h"
#include "kernels/sampler_step.h"
#include "kernels/top_p.h"
#include "ops/dispatch.h"
#include "support/far_graph.h"
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
    if (FarGraph* graph = FarGraph::recording()) graph->took(far);
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
  static void release(void* far);
  // Whoever reads it before it is written again sees NaN.
  void spoil(void* far) const {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(static_cast<char*>(far));
    if (found != blocks_.end()) memset(found->second.near, 0xFF, found->second.bytes);
  }
  void limit(size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
  }

 private:
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
  if (FarGraph* graph = FarGraph::recording()) return graph->gave_back(far);
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

std::optional<at::Tensor> near(const std::optional<at::Tensor>& tensor) {
  return tensor && tensor->defined() ? std::optional(near(*tensor)) : std::nullopt;
}

// Operations that the processor stands in for copy too, which no GPU would.
thread_local int standing_in = 0;
struct StandsIn {
  StandsIn() { ++standing_in; }
  ~StandsIn() { --standing_in; }
};

// What the processor computes as a tensor of the device; while a graph records, at each replay again.
at::Tensor far(const std::function<at::Tensor()>& compute) {
  const StandsIn processor;
  const at::Tensor result = compute().to(far_device());
  if (FarGraph* graph = FarGraph::recording()) graph->add([result, compute] { near(result, true).copy_(compute()); });
  return result;
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

// As CUDA of what waits for the host; and of what CUDA takes in silence: the host's numbers of the recording, for good.
void refuse_while_recording(bool crosses) {
  TORCH_CHECK(!crosses || !FarGraph::recording(), "operation not permitted when stream is capturing");
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool without_waiting) {
  const bool up = from.is_cpu(), pinned = up && reads_by_itself(from.const_data_ptr());
  // As LibTorch on a GPU: the host goes on at once only if it says so, and the device reads the memory by itself.
  if (standing_in == 0 && (to.is_cpu() || (up && !(pinned && without_waiting)))) far_order().host_waits();
  if (standing_in == 0 && up) far_order().uploaded(static_cast<int64_t>(from.nbytes()), pinned);
  if (FarGraph* graph = standing_in == 0 ? FarGraph::recording() : nullptr) {
    refuse_while_recording(from.is_cpu() || to.is_cpu());
    graph->add([from, to] { near(to, true).copy_(near(from)); });
  }
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
  refuse_while_recording(true);
  far_order().host_waits();
  return near(tensor).item();
}

// These have no general form for a device that LibTorch does not know.
at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                       c10::IntArrayRef output_padding, int64_t groups) {
  for (const at::Tensor& given : {x, weight, bias.value_or(at::Tensor())}) require_far(given, "convolution");
  return far([=, stride = stride.vec(), padding = padding.vec(), dilation = dilation.vec(), more = output_padding.vec()] {
    return at::convolution(near(x), near(weight), near(bias), stride, padding, dilation, transposed, more, groups);
  });
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const std::optional<at::Tensor>& mask, double dropout, bool causal, std::optional<double> scale,
                     bool grouped) {
  for (const at::Tensor& given : {query, key, value, mask.value_or(at::Tensor())}) require_far(given, "attention");
  return far([=] {
    return at::scaled_dot_product_attention(near(query), near(key), near(value), near(mask), dropout, causal, scale,
                                            grouped);
  });
}

at::Tensor gru_cell(const at::Tensor& input, const at::Tensor& hidden, const at::Tensor& w_ih, const at::Tensor& w_hh,
                    const std::optional<at::Tensor>& b_ih, const std::optional<at::Tensor>& b_hh) {
  for (const at::Tensor& given : {input, hidden, w_ih, w_hh, *b_ih, *b_hh}) require_far(given, "gru_cell");
  return far([=] { return at::gru_cell(near(input), near(hidden), near(w_ih), near(w_hh), near(*b_ih), near(*b_hh)); });
}

// Results of a replay where those of the recording were; what an operation changed in place is there already.
void put(const at::Tensor& from, const at::Tensor& to) {
  if (to.defined() && !to.is_same(from)) near(to, true).copy_(near(from));
}
void put(const c10::IValue& from, const c10::IValue& to) {
  if (to.isTensor()) put(from.toTensor(), to.toTensor());
  if (!to.isTensorList()) return;
  const std::vector<at::Tensor> sources = from.toTensorVector(), targets = to.toTensorVector();
  for (size_t i = 0; i < targets.size(); ++i) put(sources[i], targets[i]);
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
  FarGraph* graph = FarGraph::recording();
  if (!graph) return at::native::cpu_fallback(op, stack);
  const torch::jit::Stack given = torch::jit::last(*stack, op.schema().arguments().size()).vec();
  at::native::cpu_fallback(op, stack);
  const torch::jit::Stack results = torch::jit::last(*stack, op.schema().returns().size()).vec();
  graph->add([op, given, results] {
    const StandsIn again;
    torch::jit::Stack anew = given;
    at::native::cpu_fallback(op, &anew);
    for (size_t i = 0; i < results.size(); ++i) put(anew[i], results[i]);
  });
}

std::mutex launches_mutex;
std::map<std::string, int64_t> launches;
thread_local int (*kernel)(const void*, void*) = nullptr;
thread_local std::string kernel_name;

size_t bytes_of_parameters(const std::string& symbol) {
  static const std::map<std::string, size_t> bytes = {{"cached_conv3d", sizeof(kernels::CachedConv3d)},
                                                      {"frames", sizeof(kernels::Frames)},
                                                      {"fsq", sizeof(kernels::Fsq)},
                                                      {"gated_residual", sizeof(kernels::GatedResidual)},
                                                      {"int8_attention", sizeof(kernels::Int8Attention)},
                                                      {"modulated_norm", sizeof(kernels::ModulatedNorm)},
                                                      {"paged_attention", sizeof(kernels::PagedAttention)},
                                                      {"patch", sizeof(kernels::Patch)},
                                                      {"pixel_factor", sizeof(kernels::PixelFactor)},
                                                      {"qk_norm_rope", sizeof(kernels::QkNormRope)},
                                                      {"quantize_heads", sizeof(kernels::QuantizeHeads)},
                                                      {"quantized_linear", sizeof(kernels::QuantizedLinear)},
                                                      {"sampler_step", sizeof(kernels::SamplerStep)},
                                                      {"top_p", sizeof(kernels::TopP)}};
  return bytes.at(symbol.substr(std::string("orrery_cuda_").size()));
}

int launch(const void* parameters, void* stream) {
  if (FarGraph* graph = FarGraph::recording()) {
    const auto* begin = static_cast<const char*>(parameters);
    graph->add([kernel = kernel, stream, copy = std::vector<char>(begin, begin + bytes_of_parameters(kernel_name))] {
      memory().run([&] { return kernel(copy.data(), stream); });
    });
  }
  return memory().run([&] { return kernel(parameters, stream); });
}

// The emulation of tests/simt is the device's processor.
void* find_kernel(const char* symbol) {
  kernel = reinterpret_cast<int (*)(const void*, void*)>(dlsym(RTLD_DEFAULT, symbol));
  if (!kernel) return nullptr;
  kernel_name = symbol;
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
    at::GraphImplRegistry()->Register(c10::DeviceTypeName(kFar), [](const at::GraphImplArgs&) {
      return std::make_unique<FarGraph>(FarGraph::Memory{&FarMemory::release, [](void* far) { memory().spoil(far); }});
    });
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

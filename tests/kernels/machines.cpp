#include "kernels/machines.h"

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <cstdlib>
#include <filesystem>

#include "kernels/ptx_folder.h"
#include "ops/dispatch.h"
#include "ptx/machine.h"
#include "simt/simt.h"

namespace orrery::testing {
namespace {

at::Tensor stays(const at::Tensor& tensor) {
  return tensor;
}

// Launches go to the kernels in this program, which run under a setting.
Machine launched(const std::string& name, const simt::Setting& setting) {
  return {name, [setting](const Op& op) {
            struct Restored {
              simt::Setting before = simt::setting();
              ~Restored() { simt::setting() = before; }
            } restored;
            simt::setting() = setting;
            const ops::ScopedKernels kernels([](const char* symbol) { return dlsym(RTLD_DEFAULT, symbol); });
            return op(stays);
          }};
}

struct Found {
  std::vector<Machine> machines;
  std::string problem;
};

Found ptx_machines() {
  const std::filesystem::path folder = ptx_folder();
  if (folder.empty()) return {{}, "this build found no nvcc, so there is no PTX to interpret"};
  return {{launched("PTX", {.machine = ptx::machine_of(folder)}),
           launched("PTX, backward", {simt::Order::kBackward, true, ptx::machine_of(folder)})},
          ""};
}

Found gpu_machines() {
  // LibTorch's CUDA library registers itself when it is loaded; the program is not linked to it.
  if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL))
    return {{}, std::string("LibTorch has no CUDA here: ") + dlerror()};
  if (!at::hasCUDA()) return {{}, "there is no NVIDIA GPU on this machine"};
  return {{{"GPU",
            [](const Op& op) {
              return op([](const at::Tensor& t) { return t.defined() ? t.to(at::kCUDA) : t; }).to(at::kCPU);
            }}},
          ""};
}

Found found() {
  const char* wanted = std::getenv("ORRERY_KERNEL_MACHINES");
  if (wanted && std::string(wanted) == "ptx") return ptx_machines();
  if (wanted && std::string(wanted) == "gpu") return gpu_machines();
  return {{{"cpu", [](const Op& op) { return op(stays); }},
           launched("emulated, forward", {simt::Order::kForward, false, {}}),
           launched("emulated, backward", {simt::Order::kBackward, true, {}}),
           launched("emulated, shuffled", {simt::Order::kShuffled, false, {}})},
          ""};
}

const Found& known() {
  static const Found all = found();
  return all;
}

class MachinesAreThere : public ::testing::Environment {
  void SetUp() override {
    if (!why_no_machines().empty()) GTEST_SKIP() << why_no_machines();
  }
};
[[maybe_unused]] const auto* environment = ::testing::AddGlobalTestEnvironment(new MachinesAreThere);

}  // namespace

const std::vector<Machine>& machines() {
  return known().machines;
}
const std::string& why_no_machines() {
  return known().problem;
}

Tolerance rounding_of(at::ScalarType type) {
  if (type == at::kBFloat16) return kBFloat16Rounding;
  return type == at::kHalf ? kPipelineParity : kSameMath;
}

void expect_on_all_machines(const at::Tensor& expected, const Op& op) {
  for (const Machine& machine : machines()) {
    const at::Tensor actual = machine.run(op);
    EXPECT_TRUE(is_close(actual, expected.to(actual.scalar_type()), rounding_of(actual.scalar_type())))
        << "on " << machine.name;
  }
}

at::Tensor sparse(int64_t count, at::ScalarType type) {
  const size_t bytes = static_cast<size_t>(count) * c10::elementSize(type);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return at::from_blob(
      memory, {count}, [bytes](void* p) { munmap(p, bytes); }, type);
}

}  // namespace orrery::testing

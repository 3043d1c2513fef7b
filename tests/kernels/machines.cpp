#include "kernels/machines.h"

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include "ops/dispatch.h"
#include "orrery/error.h"
#include "simt/simt.h"

namespace orrery::testing {
namespace {

Machine emulated(const std::string& name, simt::Order order, bool copies_at_once) {
  return {name, [order, copies_at_once](const std::function<at::Tensor()>& op) {
            const simt::Setting before = simt::setting();
            simt::setting().order = order;
            simt::setting().copies_at_once = copies_at_once;
            simt::setting().machine = nullptr;
            const ops::ScopedKernels kernels([](const char* symbol) { return dlsym(RTLD_DEFAULT, symbol); });
            at::Tensor result;
            try {
              result = op();
            } catch (...) {
              simt::setting() = before;
              throw;
            }
            simt::setting() = before;
            return result;
          }};
}

std::vector<Machine> found() {
  return {{"cpu", [](const std::function<at::Tensor()>& op) { return op(); }},
          emulated("emulated, forward", simt::Order::kForward, false),
          emulated("emulated, backward", simt::Order::kBackward, true),
          emulated("emulated, shuffled", simt::Order::kShuffled, false)};
}

}  // namespace

const std::vector<Machine>& machines() {
  static const std::vector<Machine> all = found();
  return all;
}

const std::vector<Machine>& gpu_machines() {
  static const std::vector<Machine> all(machines().begin() + 1, machines().end());
  return all;
}

Tolerance rounding_of(at::ScalarType type) {
  if (type == at::kBFloat16) return {4e-3};
  return type == at::kHalf ? kPipelineParity : kSameMath;
}
return type == at::kBFloat16 || type == at::kHalf ? kPipelineParity : kSameMath;
}

void expect_on_all_machines(const at::Tensor& expected, const std::function<at::Tensor()>& op) {
  for (const Machine& machine : machines()) {
    const at::Tensor actual = machine.run(op);
    EXPECT_TRUE(is_close(actual, expected.to(actual.scalar_type()), rounding_of(actual.scalar_type())))
        << "on " << machine.name;
  }
}

at::Tensor sparse_floats(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return at::from_blob(
      memory, {count}, [bytes](void* p) { munmap(p, bytes); }, at::kFloat);
}

std::string error_of(const std::function<at::Tensor()>& op) {
  try {
    op();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace orrery::testing

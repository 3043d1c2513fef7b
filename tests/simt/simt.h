#pragma once

// The list of kernels/cuda/device/simt.h for a C++ compiler: a thread of the GPU is a fiber, a barrier is a switch to the
// next one. It sees what a GPU hides: a barrier that not all threads reach, lanes that disagree in a shuffle, shared memory
// read before it is written (poisoned), copies that were not waited for (done as late as the rules allow), and, with
// AddressSanitizer, every access outside an array. docs/kernels.md says what it cannot see.
#include <math.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "kernels/common/numbers.h"

#define __global__ __attribute__((visibility("default")))
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (::orrery::simt::thread_index())
#define blockIdx (::orrery::simt::block_index())
#define blockDim (::orrery::simt::block_size())
#define gridDim (::orrery::simt::grid_size())

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace orrery::simt {

/// In which order the threads of a block run between two meetings, and the blocks of a grid.
enum class Order { kForward, kBackward, kShuffled };

/// Something that can run kernels instead of the emulation: the kernel's address, the grid, the block, its one argument.
using Machine = std::function<void(const void* kernel, dim3 grid, unsigned block, const void* args, size_t size)>;

/// How launches of this thread of the host are run until changed.
struct Setting {
  Order order = Order::kForward;
  bool copies_at_once = false;  ///< copy_async16 copies when it is called, instead of when it is waited for
  Machine machine;              ///< empty: the emulation
  uint64_t last_blocks = 0;     ///< only so many blocks at the end of the grid run; 0: all. For what is too large to run
};
Setting& setting();

const dim3& thread_index();
const dim3& block_index();
const dim3& block_size();
const dim3& grid_size();

void* shared_bytes(size_t size);
template <class T>
T& shared() {
  return *static_cast<T*>(shared_bytes(sizeof(T)));
}
void barrier();

/// All 32 lanes meet under the name `what`; the last to come calls complete(arguments of all lanes).
void meet_warp(const char* what, void* argument, void (*complete)(void* const (&arguments)[32]));

void shuffle_bits(uint64_t& value, int lane, bool exclusive_or);
template <class T>
T shuffle_xor(T value, int lane_mask) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  shuffle_bits(bits, lane_mask, true);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
T shuffle(T value, int lane) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  shuffle_bits(bits, lane, false);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void copy_async16(void* to, const void* from, bool valid);
void copies_commit();
void wait_for_copies(int pending);
template <int Pending>
void copies_wait() {
  wait_for_copies(Pending);
}

void load_matrices(uint32_t (&fragment)[4], const void* row);
void load_matrices_transposed(uint32_t (&fragment)[4], const void* row);
template <class T>
void multiply_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void multiply_16x8x32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

/// Whether a device would start such a grid.
inline bool possible(const dim3& grid) {
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7FFFFFFF && grid.y <= 65535 && grid.z <= 65535;
}

/// Runs `body` in every thread of the grid. Throws std::runtime_error where a thread broke a rule.
void run_grid(dim3 grid, unsigned block, const std::function<void()>& body);

template <class Args>
int launch(void (*kernel)(Args), dim3 grid, unsigned block, void* /*stream*/, const Args& args) {
  if (!possible(grid)) return 9;  // cudaErrorInvalidConfiguration
  if (setting().machine)
    setting().machine(reinterpret_cast<const void*>(kernel), grid, block, &args, sizeof args);
  else
    run_grid(grid, block, [&] { kernel(args); });
  return 0;
}

}  // namespace orrery::simt

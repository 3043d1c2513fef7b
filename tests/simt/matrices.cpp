// ldmatrix and mma of the emulation, from the tables of the PTX manual: where element (row, column) of a fragment lies.
#include "simt/simt.h"

namespace orrery::simt {
namespace {

struct LoadArgument {
  uint32_t* fragment;
  const unsigned char* row;
};

template <bool Transposed>
void load_all(void* const (&all)[32]) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        const int row = Transposed ? 2 * (lane % 4) + i : lane / 4, column = Transposed ? lane / 4 : 2 * (lane % 4) + i;
        std::memcpy(&pair[i], static_cast<LoadArgument*>(all[8 * matrix + row])->row + 2 * column, 2);
      }
      static_cast<LoadArgument*>(all[lane])->fragment[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
}

template <class D>
struct ProductArgument {
  D (*d)[4];
  const uint32_t (*a)[4];
  const uint32_t (*b)[2];
};

// Element `index` of a register that packs several.
float unpacked(uint32_t word, int index, kernels::BFloat16) {
  return kernels::to_float(kernels::BFloat16{static_cast<uint16_t>(word >> (16 * index))});
}
float unpacked(uint32_t word, int index, kernels::Float16) {
  return kernels::to_float(kernels::Float16{static_cast<uint16_t>(word >> (16 * index))});
}
int32_t unpacked(uint32_t word, int index, int8_t) {
  return static_cast<int8_t>(word >> (8 * index));
}

// a [16,K], b [K,8], with K / 8 … that many elements in each register.
template <class T, class D, class Sum>
void multiply_all(void* const (&all)[32]) {
  constexpr int kPacked = 4 / sizeof(T), kDepth = 8 * kPacked;
  const auto argument = [&](int lane) { return static_cast<ProductArgument<D>*>(all[lane]); };
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      D& d = (*argument(row % 8 * 4 + column / 2)->d)[row / 8 * 2 + column % 2];
      Sum sum = 0;  // the hardware sums with more than float32's digits before it rounds
      for (int k = 0; k < kDepth; ++k) {
        const int quad = k / kPacked % 4, upper = k / (4 * kPacked);
        const uint32_t a = (*argument(row % 8 * 4 + quad)->a)[row / 8 + 2 * upper];
        const uint32_t b = (*argument(column * 4 + quad)->b)[upper];
        sum += static_cast<Sum>(unpacked(a, k % kPacked, T{})) * static_cast<Sum>(unpacked(b, k % kPacked, T{}));
      }
      d = static_cast<D>(static_cast<Sum>(d) + sum);
    }
  }
}

}  // namespace

void load_matrices(uint32_t (&fragment)[4], const void* row) {
  LoadArgument mine{fragment, static_cast<const unsigned char*>(row)};
  meet_warp("load_matrices", &mine, load_all<false>);
}
void load_matrices_transposed(uint32_t (&fragment)[4], const void* row) {
  LoadArgument mine{fragment, static_cast<const unsigned char*>(row)};
  meet_warp("load_matrices_transposed", &mine, load_all<true>);
}

template <>
void multiply_16x8x16<kernels::BFloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  ProductArgument<float> mine{&d, &a, &b};
  meet_warp("multiply_16x8x16", &mine, multiply_all<kernels::BFloat16, float, double>);
}
template <>
void multiply_16x8x16<kernels::Float16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  ProductArgument<float> mine{&d, &a, &b};
  meet_warp("multiply_16x8x16", &mine, multiply_all<kernels::Float16, float, double>);
}
void multiply_16x8x32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  ProductArgument<int32_t> mine{&d, &a, &b};
  meet_warp("multiply_16x8x32", &mine, multiply_all<int8_t, int32_t, int64_t>);
}

}  // namespace orrery::simt

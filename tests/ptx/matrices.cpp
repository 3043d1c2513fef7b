// mma as the PTX manual gives it for each thread: fragments are spread into whole matrices, multiplied, and gathered again.
// (The emulation in tests/simt goes the other way, from elements to fragments.)
#include "ptx/matrices.h"

#include "kernels/common/numbers.h"
#include "simt/simt.h"

namespace orrery::ptx {
namespace {

struct Argument {
  bool bfloat16;
  const uint32_t* a;
  const uint32_t* b;
  uint32_t* d;
};

void multiply_floats(void* const (&all)[32]) {
  double a[16][16], b[16][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<Argument*>(all[lane]);
    const unsigned group = lane >> 2, thread = lane % 4;
    const auto element = [&](const uint32_t* words, unsigned i) {
      const auto bits = static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16));
      return mine.bfloat16 ? kernels::to_float(kernels::BFloat16{bits}) : kernels::to_float(kernels::Float16{bits});
    };
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      a[row][thread * 2 + (i & 1) + (i >= 4 ? 8 : 0)] = element(mine.a, i);
    }
    for (unsigned i = 0; i < 4; ++i) b[thread * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group] = element(mine.b, i);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = (lane >> 2) + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
      uint32_t& d = static_cast<Argument*>(all[lane])->d[i];
      double sum = kernels::float_of(d);
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      d = kernels::bits_of(static_cast<float>(sum));
    }
  }
}

void multiply_bytes(void* const (&all)[32]) {
  int a[16][32], b[32][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<Argument*>(all[lane]);
    const unsigned group = lane >> 2, thread = lane % 4;
    for (unsigned i = 0; i < 16; ++i) {
      const unsigned row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
      a[row][thread * 4 + (i & 3) + (i >= 8 ? 16 : 0)] = static_cast<int8_t>(mine.a[i / 4] >> (i % 4 * 8));
    }
    for (unsigned i = 0; i < 8; ++i)
      b[thread * 4 + (i & 3) + (i >= 4 ? 16 : 0)][group] = static_cast<int8_t>(mine.b[i / 4] >> (i % 4 * 8));
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = (lane >> 2) + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
      auto sum = static_cast<int32_t>(static_cast<Argument*>(all[lane])->d[i]);
      for (int k = 0; k < 32; ++k) sum += a[row][k] * b[k][column];
      static_cast<Argument*>(all[lane])->d[i] = static_cast<uint32_t>(sum);
    }
  }
}

struct LoadArgument {
  const unsigned char* row;
  uint32_t* d;
};

// Eight lanes name the rows of a matrix; each row is cut into four pairs, one for each thread of a group.
void load_rows(void* const (&all)[32]) {
  for (unsigned source = 0; source < 32; ++source)
    for (unsigned thread = 0; thread < 4; ++thread)
      std::memcpy(&static_cast<LoadArgument*>(all[source % 8 * 4 + thread])->d[source / 8],
                  static_cast<LoadArgument*>(all[source])->row + 4 * thread, 4);
}

// Transposed: element c of row r goes to the thread that would hold element r of row c.
void load_columns(void* const (&all)[32]) {
  for (unsigned source = 0; source < 32; ++source) {
    const unsigned r = source % 8;
    for (unsigned c = 0; c < 8; ++c) {
      auto* half =
          reinterpret_cast<unsigned char*>(&static_cast<LoadArgument*>(all[c * 4 + r / 2])->d[source / 8]) + r % 2 * 2;
      std::memcpy(half, static_cast<LoadArgument*>(all[source])->row + 2 * c, 2);
    }
  }
}

}  // namespace

void multiply_matrices(const std::string& type, const uint32_t* a, const uint32_t* b, uint32_t* d) {
  Argument mine{type == "bf16", a, b, d};
  simt::meet_warp("mma.sync", &mine, type == "s8" ? multiply_bytes : multiply_floats);
}

void load_matrices(const unsigned char* row, bool transposed, uint32_t* d) {
  LoadArgument mine{row, d};
  simt::meet_warp("ldmatrix.sync", &mine, transposed ? load_columns : load_rows);
}

}  // namespace orrery::ptx

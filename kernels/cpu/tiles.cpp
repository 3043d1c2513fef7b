#include "kernels/tiles.h"

#include <hwy/base.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#if HWY_ARCH_X86_64 && !HWY_COMPILER_MSVC
#define ORRERY_AMX 1
#include <immintrin.h>
HWY_PUSH_ATTRIBUTES("amx-tile,amx-int8,amx-bf16")
#else
#define ORRERY_AMX 0
#endif

namespace orrery::kernels {
namespace {

#if ORRERY_AMX
// Eight tiles of 16 rows of 64 bytes: the instruction's own layout.
struct alignas(64) Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Configuration) == 64);
constexpr Configuration kConfiguration;

void configure() {
  _tile_loadconfig(&kConfiguration);
}
void release() {
  _tile_release();
}

// Tiles 0 to 3 are sums, 4 and 5 inputs, 6 and 7 weights. The compiler's macros want literal numbers.
struct ProcessorTiles {
  void clear() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  template <int64_t kRowTiles = 2>
  void load_inputs(const uint8_t* from, int64_t stride = kTileRow) {
    _tile_loadd(4, from, stride);
    if constexpr (kRowTiles == 2) _tile_loadd(5, from + kTileSide * stride, stride);
  }
  template <int64_t kColumnTiles = 2>
  void load_weights(const uint8_t* from) {
    _tile_loadd(6, from, 2 * kTileRow);
    if constexpr (kColumnTiles == 2) _tile_loadd(7, from + kTileRow, 2 * kTileRow);
  }
  template <int64_t kRowTiles = 2, int64_t kColumnTiles = 2>
  void multiply_bfloat16() {
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumnTiles == 2) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kRowTiles == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_dpbf16ps(3, 5, 7);
  }
  void multiply_int8() {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  void store(uint8_t* sums) {
    constexpr int64_t kRow = kSumSide * 4;
    _tile_stored(0, sums, kRow);
    _tile_stored(1, sums + kTileRow, kRow);
    _tile_stored(2, sums + kTileSide * kRow, kRow);
    _tile_stored(3, sums + kTileSide * kRow + kTileRow, kRow);
  }
};
#endif

// The instructions' arithmetic, number by number.
class EmulatedTiles {
 public:
  void clear() { std::memset(sums_, 0, sizeof sums_); }
  template <int64_t kRowTiles = 2>
  void load_inputs(const uint8_t* from, int64_t stride = kTileRow) {
    for (int64_t row = 0; row < kRowTiles * kTileSide; ++row)
      std::memcpy(inputs_ + row * kTileRow, from + row * stride, kTileRow);
  }
  template <int64_t kColumnTiles = 2>
  void load_weights(const uint8_t* from) {
    std::memcpy(weights_, from, kStepBytes);
  }

  template <int64_t kRowTiles = 2, int64_t kColumnTiles = 2>
  void multiply_bfloat16() {
    each_sum<kRowTiles, kColumnTiles>([&](const uint8_t* input, const uint8_t* weight, uint32_t& sum) {
      // Even and odd numbers of the depth have a sum each, which are added up and then to the tile.
      float parts[2] = {0, 0};
      for (int64_t pair = 0; pair < kTileSide; ++pair)
        for (int64_t i = 0; i < 2; ++i) {
          // In float64 the product is exact, and its sum with a float32 is rounded to float32 as if it were.
          const double a = bfloat16_at(input + 4 * pair + 2 * i), b = bfloat16_at(weight + 2 * kTileRow * pair + 2 * i);
          parts[i] = normal(static_cast<float>(a * b + static_cast<double>(parts[i])));
        }
      float old;
      std::memcpy(&old, &sum, sizeof old);
      const float added = normal(old + normal(parts[0] + parts[1]));
      std::memcpy(&sum, &added, sizeof added);
    });
  }

  void multiply_int8() {
    each_sum<2, 2>([](const uint8_t* input, const uint8_t* weight, uint32_t& sum) {
      for (int64_t four = 0; four < kTileSide; ++four)
        for (int64_t i = 0; i < 4; ++i)
          sum += static_cast<uint32_t>(static_cast<int8_t>(input[4 * four + i]) *
                                       static_cast<int8_t>(weight[2 * kTileRow * four + i]));
    });
  }

  void store(uint8_t* sums) { std::memcpy(sums, sums_, sizeof sums_); }

 private:
  // Numbers below 2^-126 count as zeros, going in and coming out.
  static float normal(float x) { return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
  static float bfloat16_at(const uint8_t* from) {
    uint16_t half;
    std::memcpy(&half, from, sizeof half);
    const uint32_t bits = uint32_t{half} << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return normal(x);
  }
  template <int64_t kRowTiles, int64_t kColumnTiles, typename Work>
  void each_sum(const Work& work) {
    for (int64_t row = 0; row < kRowTiles * kTileSide; ++row)
      for (int64_t column = 0; column < kColumnTiles * kTileSide; ++column)
        work(inputs_ + row * kTileRow, weights_ + column * 4, sums_[row][column]);
  }

  uint8_t inputs_[kStepBytes], weights_[kStepBytes];
  uint32_t sums_[kSumSide][kSumSide];
};

template <class Tiles, TileForm kForm>
void multiply_in(const TileProduct& product) {
  constexpr int64_t kInputs = input_parts(kForm), kWeights = weight_parts(kForm);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // GCC does not know that its tile loads read memory
  Tiles tiles;
  tiles.clear();
  const uint8_t *inputs = product.inputs, *weights = product.weights, *ahead = product.ahead;
  const int64_t ahead_step = (product.ahead_bytes / product.steps + 63) / 64 * 64;
  const uint8_t* const ahead_end = ahead + product.ahead_bytes;
  for (int64_t step = 0; step < product.steps; ++step, inputs += kInputs * kStepBytes, weights += kWeights * kStepBytes) {
    for (const uint8_t* end = std::min(ahead + ahead_step, ahead_end); ahead < end; ahead += 64)
      __builtin_prefetch(ahead, 0, 2);
    // The least parts first: so the largest numbers do not overflow on the way.
    for (int64_t w = kWeights - 1; w >= 0; --w) {
      tiles.load_weights(weights + w * kStepBytes);
      // Part w is 2^-8w as large as the whole: products of parts below 2^-24 change nothing in float32.
      for (int64_t i = kInputs - 1 - w; i >= 0; --i) {
        tiles.load_inputs(inputs + i * kStepBytes);
        if constexpr (kForm == TileForm::kInt8)
          tiles.multiply_int8();
        else
          tiles.multiply_bfloat16();
      }
    }
  }
  tiles.store(static_cast<uint8_t*>(product.sums));
}

template <class Tiles, int64_t kRowTiles, int64_t kColumnTiles>
void multiply_rows_in(const RowTileProduct& product) {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  Tiles tiles;
  tiles.clear();
  const int64_t stride = product.stride * 2;
  const uint8_t* weights = product.weights;
  for (int64_t tap = 0; tap < product.tap_count; ++tap) {
    const auto* high = reinterpret_cast<const uint8_t*>(product.inputs) + product.taps[tap] * stride;
    const uint8_t* low = high + product.part * 2;
    for (int64_t step = 0; step < product.steps; ++step, high += kTileRow, low += kTileRow, weights += kStepBytes) {
      tiles.template load_weights<kColumnTiles>(weights);
      tiles.template load_inputs<kRowTiles>(high, stride);
      tiles.template multiply_bfloat16<kRowTiles, kColumnTiles>();
      tiles.template load_inputs<kRowTiles>(low, stride);
      tiles.template multiply_bfloat16<kRowTiles, kColumnTiles>();
    }
  }
  tiles.store(reinterpret_cast<uint8_t*>(product.sums));
}

template <class Tiles>
void multiply_rows_by(const RowTileProduct& product) {
  if (product.row_tiles == 2)
    product.column_tiles == 2 ? multiply_rows_in<Tiles, 2, 2>(product) : multiply_rows_in<Tiles, 2, 1>(product);
  else
    product.column_tiles == 2 ? multiply_rows_in<Tiles, 1, 2>(product) : multiply_rows_in<Tiles, 1, 1>(product);
}

template <class Tiles>
void multiply_by(const TileProduct& product) {
  switch (product.form) {
    case TileForm::kInt8: return multiply_in<Tiles, TileForm::kInt8>(product);
    case TileForm::kBFloat16: return multiply_in<Tiles, TileForm::kBFloat16>(product);
    case TileForm::kFloat32: return multiply_in<Tiles, TileForm::kFloat32>(product);
  }
}

}  // namespace
}  // namespace orrery::kernels

#if ORRERY_AMX
HWY_POP_ATTRIBUTES
#endif

namespace orrery::kernels {

void multiply_tiles(const TileProduct& product, TileMachine machine) {
#if ORRERY_AMX
  if (machine == TileMachine::kProcessor) return multiply_by<ProcessorTiles>(product);
#endif
  multiply_by<EmulatedTiles>(product);
}

void multiply_row_tiles(const RowTileProduct& product, TileMachine machine) {
#if ORRERY_AMX
  if (machine == TileMachine::kProcessor) return multiply_rows_by<ProcessorTiles>(product);
#endif
  multiply_rows_by<EmulatedTiles>(product);
}

TileSession::TileSession(TileMachine machine) : machine_(machine) {
#if ORRERY_AMX
  if (machine_ == TileMachine::kProcessor) configure();
#endif
}

TileSession::~TileSession() {
#if ORRERY_AMX
  if (machine_ == TileMachine::kProcessor) release();
#endif
}

}  // namespace orrery::kernels

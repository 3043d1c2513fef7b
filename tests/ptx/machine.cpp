#include "ptx/machine.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "ptx/matrices.h"
#include "ptx/module.h"
#include "ptx/operations.h"

namespace orrery::ptx {
namespace {

double as_double(uint64_t bits) {
  return __builtin_bit_cast(double, bits);
}
uint64_t bits(double value) {
  return __builtin_bit_cast(uint64_t, value);
}
float as_float(uint64_t bits) {
  return kernels::float_of(static_cast<uint32_t>(bits));
}
uint64_t bits(float value) {
  return kernels::bits_of(value);
}

uint64_t cut(uint64_t value, int size) {
  return size >= 8 ? value : value & ((uint64_t{1} << (8 * size)) - 1);
}
int64_t widened(uint64_t value, int size) {
  const int shift = 64 - 8 * size;
  return static_cast<int64_t>(value << shift) >> shift;
}

// One thread of a block, from the first instruction to its return.
class Thread {
 public:
  Thread(const Entry& entry, const unsigned char* parameter, size_t parameter_size, unsigned char* shared)
      : entry_(entry),
        parameter_(parameter),
        parameter_size_(parameter_size),
        shared_(shared),
        registers_(entry.registers) {}

  void run() {
    for (size_t at = 0; at < entry_.code.size();) {
      const Instruction& i = entry_.code[at++];
      if (i.guard >= 0 && (registers_[i.guard] != 0) == i.guard_negated) continue;
      if (i.operation == kReturn) return;
      if (i.operation == kBranch)
        at = static_cast<size_t>(i.target);
      else
        step(i);
    }
  }

 private:
  static bool has(const Instruction& i, const char* word) {
    return std::find(i.words.begin(), i.words.end(), word) != i.words.end();
  }
  [[noreturn]] static void fail(const Instruction& i, const std::string& what) {
    throw std::runtime_error("at line " + std::to_string(i.line) + " of the PTX: " + what);
  }

  uint64_t value(const Operand& operand) const {
    if (operand.kind == Operand::kRegister) return registers_[operand.index];
    if (operand.kind == Operand::kConstant) return operand.value;
    switch (operand.value) {
      case kTidX: return threadIdx.x;
      case kNtidX: return blockDim.x;
      case kCtaidX: return blockIdx.x;
      case kCtaidY: return blockIdx.y;
      case kCtaidZ: return blockIdx.z;
      case kNctaidX: return gridDim.x;
      case kNctaidY: return gridDim.y;
      default: return gridDim.z;
    }
  }
  uint64_t in(const Instruction& i, size_t index) const { return value(i.from.at(index)); }
  void out(const Instruction& i, uint64_t value) {
    registers_[i.to.at(0).index] = cut(value, i.type == "pred" ? 1 : i.size);
  }

  unsigned char* memory(const Instruction& i, const Operand& base, int bytes) const {
    const auto address = static_cast<int64_t>(value(base)) + i.offset;
    if (has(i, "global")) return reinterpret_cast<unsigned char*>(address);
    const bool parameter = has(i, "param");
    const auto size = static_cast<int64_t>(parameter ? parameter_size_ : entry_.shared_bytes);
    // A parameter's address is 0, too, when it was moved into a register first.
    if (address < 0 || address + bytes > size)
      fail(i, parameter ? "reads outside its parameter" : "leaves the shared memory");
    if (address % bytes != 0 && !parameter) fail(i, "is not aligned");
    return const_cast<unsigned char*>(parameter ? parameter_ : shared_) + address;
  }

  void step(const Instruction& i) {
    switch (i.operation) {
      case kMove: return i.packs ? pack(i) : out(i, in(i, 0));
      case kLoad: {
        const int count = static_cast<int>(i.to.size());
        const unsigned char* from = memory(i, i.from.at(0), i.size * count);
        if (has(i, "global") && reinterpret_cast<uintptr_t>(from) % (i.size * count) != 0) fail(i, "is not aligned");
        for (int k = 0; k < count; ++k) {
          uint64_t loaded = 0;
          std::memcpy(&loaded, from + i.size * k, i.size);
          registers_[i.to[k].index] = i.type[0] == 's' ? static_cast<uint64_t>(widened(loaded, i.size)) : loaded;
        }
        return;
      }
      case kStore: {
        const int count = static_cast<int>(i.from.size());
        unsigned char* to = memory(i, i.to.at(0), i.size * count);
        if (has(i, "global") && reinterpret_cast<uintptr_t>(to) % (i.size * count) != 0) fail(i, "is not aligned");
        for (int k = 0; k < count; ++k) {
          const uint64_t stored = value(i.from[k]);
          std::memcpy(to + i.size * k, &stored, i.size);
        }
        return;
      }
      case kSetPredicate: return out(i, compared(i));
      case kSelect: return out(i, in(i, 2) & 1 ? in(i, 0) : in(i, 1));
      case kConvert: return convert(i);
      case kBarrier: return simt::barrier();
      case kCommit: return simt::copies_commit();
      case kWait: return simt::wait_for_copies(static_cast<int>(value(i.to.at(0))));
      case kCopyAsync:
        return simt::copy_async16(shared_ + value(i.to.at(0)), reinterpret_cast<const void*>(in(i, 0)),
                                  i.from.size() < 3 || in(i, 2) == 16);
      case kShuffle: {
        if (in(i, 3) != 0xFFFFFFFF || in(i, 2) != 31) fail(i, "shuffles among a part of the warp");
        uint64_t exchanged = in(i, 0);
        simt::shuffle_bits(exchanged, static_cast<int>(in(i, 1)), has(i, "bfly"));
        return out(i, exchanged);
      }
      case kLoadMatrices: {
        uint32_t d[4];
        load_matrices(memory(i, i.from.at(0), 16), has(i, "trans"), d);
        for (int k = 0; k < 4; ++k) registers_[i.to[k].index] = d[k];
        return;
      }
      case kMultiplyMatrices: {
        uint32_t a[4], b[2], d[4];
        for (int k = 0; k < 4; ++k) a[k] = static_cast<uint32_t>(in(i, k)), d[k] = static_cast<uint32_t>(in(i, 6 + k));
        for (int k = 0; k < 2; ++k) b[k] = static_cast<uint32_t>(in(i, 4 + k));
        multiply_matrices(i.words[7], a, b, d);
        for (int k = 0; k < 4; ++k) registers_[i.to[k].index] = d[k];
        return;
      }
      default: return i.type == "f32" ? floats<float>(i) : i.type == "f64" ? floats<double>(i) : integers(i);
    }
  }

  // mov between a register and the two halves of it.
  void pack(const Instruction& i) {
    if (i.to.size() == 1) return out(i, in(i, 0) | in(i, 1) << (4 * i.size));
    for (int k = 0; k < 2; ++k) registers_[i.to[k].index] = cut(in(i, 0) >> (4 * i.size * k), i.size / 2);
  }

  bool compared(const Instruction& i) const {
    const std::string& how = i.words[1];
    const auto holds = [&](auto a, auto b) {
      if (how == "eq" || how == "equ") return a == b;
      if (how == "ne" || how == "neu") return a != b;
      if (how == "lt" || how == "lo" || how == "ltu") return a < b;
      if (how == "le" || how == "ls" || how == "leu") return a <= b;
      if (how == "gt" || how == "hi" || how == "gtu") return a > b;
      if (how == "ge" || how == "hs" || how == "geu") return a >= b;
      fail(i, "compares in an unknown way");
    };
    const auto either = [&](auto a, auto b) {  // the unordered comparisons hold with a NaN
      return (how.size() == 3 && (std::isnan(a) || std::isnan(b))) || holds(a, b);
    };
    if (i.type == "f32") return either(as_float(in(i, 0)), as_float(in(i, 1)));
    if (i.type == "f64") return either(as_double(in(i, 0)), as_double(in(i, 1)));
    if (i.type[0] == 's') return holds(widened(in(i, 0), i.size), widened(in(i, 1), i.size));
    return holds(cut(in(i, 0), i.size), cut(in(i, 1), i.size));
  }

  void convert(const Instruction& i) {
    const std::string& from = i.from_type;
    const uint64_t source = in(i, 0);
    const int from_size = from == "bf16" ? 2 : std::stoi(from.substr(1)) / 8;
    if (i.type == "bf16") return registers(i, kernels::from_float<kernels::BFloat16>(as_float(source)).bits);
    if (i.type == "f16" && from == "f32") return out(i, kernels::from_float<kernels::Float16>(as_float(source)).bits);
    if (from[0] == 'f') {
      const double read = from == "f16" ? kernels::to_float(kernels::Float16{static_cast<uint16_t>(source)})
                                        : (from == "f32" ? as_float(source) : as_double(source));
      const double rounded = has(i, "rni")   ? std::nearbyint(read)
                             : has(i, "rmi") ? std::floor(read)
                             : has(i, "rpi") ? std::ceil(read)
                             : has(i, "rzi") ? std::trunc(read)
                                             : read;
      const double kept =
          has(i, "sat") && i.type[0] == 'f' ? (std::isnan(rounded) ? 0.0 : std::clamp(rounded, 0.0, 1.0)) : rounded;
      if (i.type == "f32") return out(i, bits(static_cast<float>(kept)));
      if (i.type == "f64") return out(i, bits(kept));
      return out(i, i.type[0] == 's' ? static_cast<uint64_t>(static_cast<int64_t>(kept)) : static_cast<uint64_t>(kept));
    }
    const int64_t whole = from[0] == 's' ? widened(source, from_size) : static_cast<int64_t>(cut(source, from_size));
    const bool huge = from[0] != 's' && whole < 0;
    if (i.type == "f32")
      return out(i, bits(huge ? static_cast<float>(static_cast<uint64_t>(whole)) : static_cast<float>(whole)));
    if (i.type == "f64")
      return out(i, bits(huge ? static_cast<double>(static_cast<uint64_t>(whole)) : static_cast<double>(whole)));
    out(i, static_cast<uint64_t>(whole));
  }
  void registers(const Instruction& i, uint64_t value) { registers_[i.to.at(0).index] = value; }

  template <class F>
  void floats(const Instruction& i) {
    const auto number = [&](size_t index) {
      if constexpr (sizeof(F) == 4)
        return as_float(in(i, index));
      else
        return as_double(in(i, index));
    };
    const F a = number(0);
    switch (i.operation) {
      case kAdd: return out(i, bits(a + number(1)));
      case kSubtract: return out(i, bits(a - number(1)));
      case kMultiply: return out(i, bits(a * number(1)));
      case kDivide: return out(i, bits(a / number(1)));
      case kMultiplyAdd: {
        if (!has(i, "rm")) return out(i, bits(std::fma(a, number(1), number(2))));
        std::fesetround(FE_DOWNWARD);
        volatile F x = a, y = number(1), z = number(2);
        const volatile F result = std::fma(x, y, z);
        std::fesetround(FE_TONEAREST);
        return out(i, bits(static_cast<F>(result)));
      }
      case kMinimum: return out(i, bits(std::fmin(a, number(1))));
      case kMaximum: return out(i, bits(std::fmax(a, number(1))));
      case kNegate: return out(i, bits(-a));
      case kAbsolute: return out(i, bits(std::fabs(a)));
      case kRoot: return out(i, bits(std::sqrt(a)));
      case kReciprocal: return out(i, bits(F(1) / a));
      case kCopySign: return out(i, bits(std::copysign(number(1), a)));
      case kPowerOfTwo: return out(i, bits(std::exp2(a)));
      default: fail(i, "has no floating-point form");
    }
  }

  void integers(const Instruction& i) {
    const bool with_sign = i.type[0] == 's';
    const auto number = [&](size_t index) -> uint64_t {
      return with_sign ? static_cast<uint64_t>(widened(in(i, index), i.size)) : cut(in(i, index), i.size);
    };
    const uint64_t a = number(0), b = i.from.size() > 1 ? number(1) : 0;
    const bool wide = has(i, "wide");
    const auto product = [&]() -> uint64_t {
      if (has(i, "hi"))
        return static_cast<uint64_t>((with_sign ? static_cast<__int128>(static_cast<int64_t>(a)) * static_cast<int64_t>(b)
                                                : static_cast<__int128>(static_cast<unsigned __int128>(a) * b)) >>
                                     (8 * i.size));
      return a * b;
    };
    switch (i.operation) {
      case kAdd: return out(i, a + b);
      case kSubtract: return out(i, a - b);
      case kMultiply: return wide ? registers(i, cut(a * b, 2 * i.size)) : out(i, product());
      case kMultiplyAdd: return wide ? registers(i, cut(a * b + in(i, 2), 2 * i.size)) : out(i, product() + in(i, 2));
      case kDivide:
        if (b == 0) fail(i, "divides by zero");
        return out(i, with_sign ? static_cast<uint64_t>(static_cast<int64_t>(a) / static_cast<int64_t>(b)) : a / b);
      case kRemainder:
        if (b == 0) fail(i, "divides by zero");
        return out(i, with_sign ? static_cast<uint64_t>(static_cast<int64_t>(a) % static_cast<int64_t>(b)) : a % b);
      case kMinimum: return out(i, with_sign ? std::min<int64_t>(a, b) : std::min(a, b));
      case kMaximum: return out(i, with_sign ? std::max<int64_t>(a, b) : std::max(a, b));
      case kAnd: return out(i, in(i, 0) & in(i, 1));
      case kOr: return out(i, in(i, 0) | in(i, 1));
      case kXor: return out(i, in(i, 0) ^ in(i, 1));
      case kNot: return out(i, i.type == "pred" ? !in(i, 0) : ~in(i, 0));
      case kNegate: return out(i, 0 - a);
      case kAbsolute: return out(i, static_cast<int64_t>(a) < 0 ? 0 - a : a);
      case kShiftLeft: return out(i, cut(in(i, 1), 4) >= 8u * i.size ? 0 : in(i, 0) << cut(in(i, 1), 4));
      case kShiftRight: {
        const uint64_t by = std::min<uint64_t>(cut(in(i, 1), 4), 8u * i.size);
        if (with_sign) return out(i, static_cast<uint64_t>(static_cast<int64_t>(a) >> std::min<uint64_t>(by, 63)));
        return out(i, by >= 64 ? 0 : cut(in(i, 0), i.size) >> by);
      }
      case kInsertBits: {
        const uint64_t at = in(i, 2) & 0xFF, length = in(i, 3) & 0xFF;
        const uint64_t mask = (length >= 64 ? ~uint64_t{0} : (uint64_t{1} << length) - 1) << at;
        return out(i, (in(i, 1) & ~mask) | (in(i, 0) << at & mask));
      }
      case kPermute: {
        const uint64_t both = cut(in(i, 0), 4) | in(i, 1) << 32;
        uint64_t result = 0;
        for (int k = 0; k < 4; ++k) {
          const uint64_t selector = in(i, 2) >> (4 * k) & 0xF, byte = both >> (8 * (selector & 7)) & 0xFF;
          result |= (selector & 8 ? (byte & 0x80 ? 0xFF : 0) : byte) << (8 * k);
        }
        return out(i, result);
      }
      default: fail(i, "has no integer form");
    }
  }

  const Entry& entry_;
  const unsigned char* parameter_;
  size_t parameter_size_;
  unsigned char* shared_;
  std::vector<uint64_t> registers_;
};

}  // namespace

simt::Machine machine_of(const std::string& folder) {
  auto entries = std::make_shared<std::map<std::string, Entry>>();
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".ptx") continue;
    std::stringstream text;
    text << std::ifstream(file.path()).rdbuf();
    entries->merge(read_module(text.str()));
  }
  return [entries](const void* kernel, dim3 grid, unsigned block, const void* args, size_t size) {
    Dl_info info;
    if (dladdr(kernel, &info) == 0 || info.dli_sname == nullptr) throw std::runtime_error("the kernel has no name");
    const auto found = entries->find(info.dli_sname);
    if (found == entries->end()) throw std::runtime_error(std::string("the PTX has no entry ") + info.dli_sname);
    const Entry& entry = found->second;
    simt::run_grid(grid, block, [&] {
      auto* shared = entry.shared_bytes > 0 ? static_cast<unsigned char*>(simt::shared_bytes(entry.shared_bytes)) : nullptr;
      Thread(entry, static_cast<const unsigned char*>(args), size, shared).run();
    });
  };
}

}  // namespace orrery::ptx

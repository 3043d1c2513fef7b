#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace orrery::ptx {

/// A register of a thread, a constant, or a special register (whose number is in `value`).
struct Operand {
  enum Kind { kNone, kRegister, kConstant, kSpecial } kind = kNone;
  int index = 0;
  uint64_t value = 0;
};

/// One instruction, its name taken apart at the dots: "ld.global.v4.f32" has the words ld, global, v4, f32.
struct Instruction {
  int operation = 0;  ///< what run() switches over, from operation_of(words)
  std::vector<std::string> words;
  std::string type;       ///< the last word: u32, f32, pred, …
  std::string from_type;  ///< of cvt: the type it reads
  int size = 0;           ///< bytes of `type`
  int guard = -1;         ///< register of the predicate that must hold
  bool guard_negated = false;
  std::vector<Operand> to, from;  ///< vectors are flattened
  bool packs = false;             ///< mov between a register and a vector
  int64_t offset = 0;             ///< of a memory operand, whose register or symbol is from[0] (ld) or to[0] (st)
  int target = -1;                ///< of a branch
  int line = 0;
};

/// One `.entry` of a module.
struct Entry {
  std::vector<Instruction> code;
  int registers = 0;
  uint32_t shared_bytes = 0;
};

/// What nvcc wrote into one .ptx file; throws std::runtime_error naming the line of what it does not understand.
std::map<std::string, Entry> read_module(const std::string& text);

enum Special { kTidX, kNtidX, kCtaidX, kCtaidY, kCtaidZ, kNctaidX, kNctaidY, kNctaidZ };

}  // namespace orrery::ptx

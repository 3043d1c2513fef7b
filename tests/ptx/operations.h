#pragma once

#include <string>
#include <vector>

namespace orrery::ptx {

enum Operation {
  kMove,
  kAdd,
  kSubtract,
  kMultiply,
  kMultiplyAdd,
  kDivide,
  kRemainder,
  kMinimum,
  kMaximum,
  kAnd,
  kOr,
  kXor,
  kNot,
  kShiftLeft,
  kShiftRight,
  kNegate,
  kAbsolute,
  kRoot,
  kReciprocal,
  kPowerOfTwo,
  kInsertBits,
  kSetPredicate,
  kSelect,
  kConvert,
  kLoad,
  kStore,
  kBranch,
  kReturn,
  kBarrier,
  kShuffle,
  kLoadMatrices,
  kMultiplyMatrices,
  kCopyAsync,
  kCommit,
  kWait,
  kPermute,
  kCopySign,
};

/// −1 for what the interpreter does not know.
inline int operation_of(const std::vector<std::string>& words) {
  const std::string& w = words[0];
  if (w == "cp")
    return words.size() < 3 ? -1 : words[2] == "commit_group" ? kCommit : words[2] == "wait_group" ? kWait : kCopyAsync;
  static const std::vector<std::pair<const char*, Operation>> kNames = {{"mov", kMove},
                                                                        {"cvta", kMove},
                                                                        {"add", kAdd},
                                                                        {"sub", kSubtract},
                                                                        {"mul", kMultiply},
                                                                        {"mad", kMultiplyAdd},
                                                                        {"fma", kMultiplyAdd},
                                                                        {"div", kDivide},
                                                                        {"rem", kRemainder},
                                                                        {"min", kMinimum},
                                                                        {"max", kMaximum},
                                                                        {"and", kAnd},
                                                                        {"or", kOr},
                                                                        {"xor", kXor},
                                                                        {"not", kNot},
                                                                        {"shl", kShiftLeft},
                                                                        {"shr", kShiftRight},
                                                                        {"neg", kNegate},
                                                                        {"abs", kAbsolute},
                                                                        {"sqrt", kRoot},
                                                                        {"rcp", kReciprocal},
                                                                        {"ex2", kPowerOfTwo},
                                                                        {"bfi", kInsertBits},
                                                                        {"setp", kSetPredicate},
                                                                        {"selp", kSelect},
                                                                        {"cvt", kConvert},
                                                                        {"ld", kLoad},
                                                                        {"st", kStore},
                                                                        {"bra", kBranch},
                                                                        {"ret", kReturn},
                                                                        {"bar", kBarrier},
                                                                        {"shfl", kShuffle},
                                                                        {"ldmatrix", kLoadMatrices},
                                                                        {"mma", kMultiplyMatrices},
                                                                        {"prmt", kPermute},
                                                                        {"copysign", kCopySign}};
  for (const auto& [name, operation] : kNames)
    if (w == name) return operation;
  return -1;
}

}  // namespace orrery::ptx

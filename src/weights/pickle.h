#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weights/file.h"

namespace orrery::weights_detail {

/// What a pickle describes, as plain data. A class or function is only ever a name and a call only a record of its
/// arguments: nothing is imported, built or executed.
class Pickle {
 public:
  using Ref = uint32_t;  ///< an index of values(); containers may share values and may even contain themselves
  static constexpr Ref kNothing = 0;

  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kBigInt,
    kFloat,
    kString,
    kBytes,
    kList,
    kTuple,
    kDict,
    kGlobal,
    kCall,
    kPersistent
  };
  struct Value {
    Kind kind = Kind::kNone;
    Ref args = kNothing;     ///< kCall: the arguments; kPersistent: the id
    Ref state = kNothing;    ///< kCall: what BUILD would have given to the object
    int64_t integer = 0;     ///< kInt, kBool
    double number = 0;       ///< kFloat
    std::string text;        ///< kString, kBytes, kBigInt (little-endian); "module.name" of kGlobal and kCall
    std::vector<Ref> items;  ///< list, tuple: the items; dict and dict-like objects: key, value, key, value, …
  };

  /// Reads the pickle at the start of `bytes` (protocols 0 to 5). Throws Error(kWeights) when it is malformed, or names what
  /// no checkpoint needs and an attack does (os.system, builtins.eval, …).
  static Pickle parse(Bytes bytes, const std::string& place);

  const Value& operator[](Ref ref) const { return values_[ref]; }
  const Value& root() const { return values_[root_]; }
  Ref root_ref() const { return root_; }
  Ref size() const { return static_cast<Ref>(values_.size()); }  ///< all values, also those that the root does not reach
  /// Bytes that the pickle took: several may stand one after another.
  size_t length() const { return length_; }

  /// The pairs of a dict, of an OrderedDict or the like, or of a dict given to a constructor; empty for anything else.
  std::vector<std::pair<Ref, Ref>> dict(Ref ref) const;
  /// The items of a list, tuple or set.
  std::vector<Ref> sequence(Ref ref) const;
  /// All items as integers; empty when any is none.
  std::optional<std::vector<int64_t>> integers(Ref ref) const;
  /// The value of a string key.
  std::optional<Ref> at(Ref ref, std::string_view key) const;
  /// A string or ASCII bytes (as Python 2 wrote them), or an integer's digits: what may serve as a name.
  std::string name(Ref ref) const;

 private:
  friend class Unpickler;
  std::vector<Value> values_;
  Ref root_ = kNothing;
  size_t length_ = 0;
};

}  // namespace orrery::weights_detail

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "orrery/error.h"
#include "weights/cursor.h"
#include "weights/pickle.h"

namespace orrery::weights_detail {
namespace {

using Kind = Pickle::Kind;
using Ref = Pickle::Ref;

// Python's pickletools.py names these.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kFloatText = 'F',
  kIntText = 'I',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kLongText = 'L',
  kBinInt2 = 'M',
  kNone = 'N',
  kPersIdText = 'P',
  kBinPersId = 'Q',
  kReduce = 'R',
  kStringText = 'S',
  kBinString = 'T',
  kShortBinString = 'U',
  kUnicodeText = 'V',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kEmptyDict = '}',
  kAppends = 'e',
  kGetText = 'g',
  kBinGet = 'h',
  kInst = 'i',
  kLongBinGet = 'j',
  kList = 'l',
  kEmptyList = ']',
  kObj = 'o',
  kPutText = 'p',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinFloat = 'G',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
};

// What attacks name and no checkpoint needs. Nothing is executed in any case; the list makes the refusal a clear one.
constexpr std::array<std::string_view, 46> kHostileModules = {"os",         "posix",
                                                              "nt",         "subprocess",
                                                              "sys",        "shutil",
                                                              "socket",     "pty",
                                                              "importlib",  "runpy",
                                                              "ctypes",     "code",
                                                              "codeop",     "commands",
                                                              "popen2",     "pickle",
                                                              "_pickle",    "cPickle",
                                                              "marshal",    "types",
                                                              "webbrowser", "multiprocessing",
                                                              "asyncio",    "signal",
                                                              "pip",        "requests",
                                                              "urllib",     "urllib2",
                                                              "http",       "httplib",
                                                              "ftplib",     "smtplib",
                                                              "telnetlib",  "platform",
                                                              "bdb",        "pdb",
                                                              "timeit",     "trace",
                                                              "profile",    "cProfile",
                                                              "operator",   "_operator",
                                                              "tempfile",   "pathlib.os",
                                                              "torch.hub",  "torch.serialization"};
constexpr std::array<std::string_view, 18> kHostileBuiltins = {
    "eval",    "exec",    "execfile", "compile", "open",   "file", "input",      "raw_input", "__import__",
    "getattr", "setattr", "delattr",  "globals", "locals", "vars", "breakpoint", "apply",     "reload"};

// 20 million values are 2 GB of memory; the largest checkpoints have some 100 thousand.
constexpr size_t kMostValues = 20'000'000;

bool is_hostile(std::string_view module, std::string_view name) {
  if (module == "builtins" || module == "__builtin__" || module == "__builtins__")
    return std::find(kHostileBuiltins.begin(), kHostileBuiltins.end(), name.substr(0, name.find('.'))) !=
           kHostileBuiltins.end();
  return std::any_of(kHostileModules.begin(), kHostileModules.end(), [&](std::string_view hostile) {
    return module == hostile || (module.starts_with(hostile) && module[hostile.size()] == '.');
  });
}

}  // namespace

class Unpickler {
 public:
  Unpickler(Bytes bytes, const std::string& place) : in_(bytes, place) { pickle_.values_.resize(1); }

  Pickle run() {
    while (true) {
      const auto opcode = in_.number<uint8_t>();
      if (opcode == kStop) break;
      step(opcode);
    }
    pickle_.root_ = pop();
    pickle_.length_ = in_.position();
    return std::move(pickle_);
  }

 private:
  using Value = Pickle::Value;

  [[noreturn]] void damaged(std::string what) const {
    throw Error(ErrorKind::kWeights,
                {.place = in_.place(),
                 .what = "has a pickle that " + std::move(what) + " at byte " + std::to_string(in_.position()),
                 .hint = "the file is damaged or no checkpoint"});
  }

  // --- the stack ---
  Ref make(Value value) {
    if (pickle_.values_.size() >= kMostValues) damaged("holds more values than any checkpoint");
    pickle_.values_.push_back(std::move(value));
    return static_cast<Ref>(pickle_.values_.size() - 1);
  }
  void push(Ref ref) { stack_.push_back(ref); }
  void push(Value value) { push(make(std::move(value))); }
  void push_text(Kind kind, std::string_view text) { push({.kind = kind, .text = std::string(text)}); }
  void push_int(int64_t integer) { push({.kind = Kind::kInt, .integer = integer}); }
  Ref pop() {
    if (stack_.size() <= floor()) damaged("takes from an empty stack");
    const Ref top = stack_.back();
    stack_.pop_back();
    return top;
  }
  Ref top() {
    if (stack_.size() <= floor()) damaged("looks at an empty stack");
    return stack_.back();
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  std::vector<Ref> pop_mark() {
    if (marks_.empty()) damaged("lacks a mark");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Ref> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_items(Kind kind, std::vector<Ref> items) { push({.kind = kind, .items = std::move(items)}); }
  void push_tuple(size_t size) {
    std::vector<Ref> items(size);
    for (size_t i = size; i-- > 0;) items[i] = pop();
    push_items(Kind::kTuple, std::move(items));
  }
  void add_to_top(const std::vector<Ref>& items) {
    Value& container = pickle_.values_[top()];
    if (container.kind != Kind::kList && container.kind != Kind::kDict && container.kind != Kind::kCall)
      damaged("adds to what is no container");
    container.items.insert(container.items.end(), items.begin(), items.end());
  }

  // --- the memo ---
  void put(uint64_t key) { memo_[key] = top(); }
  void get(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) damaged("asks for a value that it never kept");
    push(found->second);
  }
  uint64_t line_number() {
    const std::string_view line = in_.line();
    uint64_t number = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), number).ec != std::errc()) damaged("has a malformed number");
    return number;
  }

  // --- names and calls ---
  void push_global(std::string_view module, std::string_view name) {
    const std::string full = std::string(module) + "." + std::string(name);
    if (is_hostile(module, name))
      throw Error(ErrorKind::kWeights,
                  {.place = in_.place(),
                   .what = "is a pickle that names " + full + ", which no checkpoint needs",
                   .hint = "it was refused and nothing of it was executed; do not trust where it came from"});
    push_text(Kind::kGlobal, full);
  }
  void push_call(Ref function, Ref arguments) {
    const Value& callee = pickle_.values_[function];
    const bool is_class = callee.kind == Kind::kGlobal || callee.kind == Kind::kPersistent || callee.kind == Kind::kCall;
    if (!is_class) damaged("calls what has no name");
    // copyreg's helpers take the class as their first argument; the object is of that class.
    std::string name = callee.text;
    if (name.starts_with("copyreg.") || name.starts_with("copy_reg.")) {
      const auto& items = pickle_.values_[arguments].items;
      if (!items.empty() && pickle_.values_[items[0]].kind == Kind::kGlobal) name = pickle_.values_[items[0]].text;
    }
    push({.kind = Kind::kCall, .args = arguments, .text = std::move(name)});
  }
  void push_persistent(Ref id) { push({.kind = Kind::kPersistent, .args = id}); }

  void push_long(Bytes bytes) {
    if (bytes.size() > 8) return push_text(Kind::kBigInt, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    uint64_t bits = !bytes.empty() && (static_cast<uint8_t>(bytes.back()) & 0x80) ? ~uint64_t{0} : 0;
    for (size_t i = bytes.size(); i-- > 0;) bits = bits << 8 | static_cast<uint64_t>(bytes[i]);
    push_int(static_cast<int64_t>(bits));
  }
  void push_number_text(std::string_view line) {
    if (line == "00" || line == "01") return push({.kind = Kind::kBool, .integer = line == "01"});
    if (line.ends_with('L')) line.remove_suffix(1);
    int64_t integer = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), integer).ec == std::errc()) return push_int(integer);
    push_text(Kind::kBigInt, line);
  }
  void push_float_text(std::string_view line) {
    double number = 0;
    std::from_chars(line.data(), line.data() + line.size(), number);
    push({.kind = Kind::kFloat, .number = number});
  }
  void push_big_endian_float() {
    auto bits = __builtin_bswap64(in_.number<uint64_t>());
    double number;
    std::memcpy(&number, &bits, sizeof number);
    push({.kind = Kind::kFloat, .number = number});
  }

  void step(uint8_t opcode) {
    switch (opcode) {
      case kProto:
        if (in_.number<uint8_t>() > 5) damaged("is of an unknown protocol");
        break;
      case kFrame: in_.take(8); break;
      case kMark: marks_.push_back(stack_.size()); break;
      case kPop:
        if (stack_.size() == floor() && !marks_.empty())
          marks_.pop_back();
        else
          pop();
        break;
      case kPopMark: pop_mark(); break;
      case kDup: push(top()); break;
      case kNone: push(Pickle::kNothing); break;
      case kNewTrue: push({.kind = Kind::kBool, .integer = 1}); break;
      case kNewFalse: push({.kind = Kind::kBool}); break;
      case kIntText:
      case kLongText: push_number_text(in_.line()); break;
      case kBinInt: push_int(in_.number<int32_t>()); break;
      case kBinInt1: push_int(in_.number<uint8_t>()); break;
      case kBinInt2: push_int(in_.number<uint16_t>()); break;
      case kLong1: push_long(in_.take(in_.number<uint8_t>())); break;
      case kLong4: push_long(in_.take(in_.number<uint32_t>())); break;
      case kFloatText: push_float_text(in_.line()); break;
      case kBinFloat: push_big_endian_float(); break;
      case kStringText: {
        std::string_view line = in_.line();
        if (line.size() >= 2 && line.front() == line.back()) line = line.substr(1, line.size() - 2);
        push_text(Kind::kString, line);
        break;
      }
      case kUnicodeText: push_text(Kind::kString, in_.line()); break;
      case kShortBinString:
      case kShortBinUnicode: push_text(Kind::kString, in_.text(in_.number<uint8_t>())); break;
      case kBinString:
      case kBinUnicode: push_text(Kind::kString, in_.text(in_.number<uint32_t>())); break;
      case kBinUnicode8: push_text(Kind::kString, in_.text(in_.number<uint64_t>())); break;
      case kShortBinBytes: push_text(Kind::kBytes, in_.text(in_.number<uint8_t>())); break;
      case kBinBytes: push_text(Kind::kBytes, in_.text(in_.number<uint32_t>())); break;
      case kBinBytes8:
      case kByteArray8: push_text(Kind::kBytes, in_.text(in_.number<uint64_t>())); break;
      case kEmptyList:
      case kEmptySet: push_items(Kind::kList, {}); break;
      case kEmptyTuple: push_items(Kind::kTuple, {}); break;
      case kEmptyDict: push_items(Kind::kDict, {}); break;
      case kList:
      case kFrozenSet: push_items(Kind::kList, pop_mark()); break;
      case kTuple: push_items(Kind::kTuple, pop_mark()); break;
      case kDict: push_items(Kind::kDict, pop_mark()); break;
      case kTuple1: push_tuple(1); break;
      case kTuple2: push_tuple(2); break;
      case kTuple3: push_tuple(3); break;
      case kAppend: add_to_top({pop()}); break;
      case kAppends:
      case kAddItems:
      case kSetItems: add_to_top(pop_mark()); break;
      case kSetItem: {
        const Ref value = pop(), key = pop();
        add_to_top({key, value});
        break;
      }
      case kGetText: get(line_number()); break;
      case kBinGet: get(in_.number<uint8_t>()); break;
      case kLongBinGet: get(in_.number<uint32_t>()); break;
      case kPutText: put(line_number()); break;
      case kBinPut: put(in_.number<uint8_t>()); break;
      case kLongBinPut: put(in_.number<uint32_t>()); break;
      case kMemoize: put(memo_.size()); break;
      case kPersIdText:
        push_text(Kind::kString, in_.line());
        push_persistent(pop());
        break;
      case kBinPersId: push_persistent(pop()); break;
      default: step_object(opcode); break;
    }
  }

  void step_object(uint8_t opcode) {
    switch (opcode) {
      case kGlobal: {
        const std::string_view module = in_.line(), name = in_.line();
        push_global(module, name);
        break;
      }
      case kStackGlobal: {
        const Ref name = pop(), module = pop();
        if (pickle_.values_[name].kind != Kind::kString || pickle_.values_[module].kind != Kind::kString)
          damaged("has a global without a name");
        push_global(std::string(pickle_.values_[module].text), std::string(pickle_.values_[name].text));
        break;
      }
      case kReduce:
      case kNewObj: {
        const Ref arguments = pop(), function = pop();
        push_call(function, arguments);
        break;
      }
      case kNewObjEx: {
        pop();  // keyword arguments
        const Ref arguments = pop(), function = pop();
        push_call(function, arguments);
        break;
      }
      case kInst: {
        const std::string_view module = in_.line(), name = in_.line();
        push_items(Kind::kTuple, pop_mark());
        const Ref arguments = pop();
        push_global(module, name);
        push_call(pop(), arguments);
        break;
      }
      case kObj: {
        std::vector<Ref> items = pop_mark();
        if (items.empty()) damaged("makes an object without a class");
        const Ref function = items.front();
        items.erase(items.begin());
        push_items(Kind::kTuple, std::move(items));
        push_call(function, pop());
        break;
      }
      case kBuild: {
        const Ref state = pop();
        if (Value& object = pickle_.values_[top()]; object.kind == Kind::kCall) object.state = state;
        break;
      }
      default: damaged("has an unknown instruction " + std::to_string(opcode));
    }
  }

  Cursor in_;
  Pickle pickle_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, Ref> memo_;
};

Pickle Pickle::parse(Bytes bytes, const std::string& place) {
  return Unpickler(bytes, place).run();
}

}  // namespace orrery::weights_detail

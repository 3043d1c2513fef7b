#include "ptx/module.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "ptx/operations.h"

namespace orrery::ptx {
namespace {

[[noreturn]] void fail(int line, const std::string& what) {
  throw std::runtime_error("line " + std::to_string(line) + " of the PTX: " + what);
}

int size_of(const std::string& type) {
  const std::string digits =
      type.substr(type.find_first_of("0123456789") == std::string::npos ? type.size() : type.find_first_of("0123456789"));
  return digits.empty() ? 1 : std::stoi(digits) / 8;
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

// "a, {b, c}, [d+4]" at the commas outside braces and brackets.
std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::string part;
  int depth = 0;
  for (const char c : text) {
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    if ((c == ',' || c == '|') && depth == 0) {
      parts.push_back(trimmed(part));
      part.clear();
    } else {
      part += c;
    }
  }
  if (!trimmed(part).empty()) parts.push_back(trimmed(part));
  return parts;
}

class Reader {
 public:
  explicit Reader(const std::string& text) : lines_(text) {}

  std::map<std::string, Entry> read() {
    for (std::string line; next(line);) {
      if (line.starts_with(".shared"))
        shared(line);
      else if (line.find(".entry") != std::string::npos)
        entry(line);
    }
    return std::move(entries_);
  }

 private:
  bool next(std::string& line) {
    while (std::getline(lines_, line)) {
      ++number_;
      if (const size_t comment = line.find("//"); comment != std::string::npos) line.resize(comment);
      line = trimmed(line);
      if (!line.empty()) return true;
    }
    return false;
  }

  // .shared .align 16 .b8 name[bytes];
  void shared(const std::string& line) {
    const size_t open = line.find('['), name = line.rfind(' ', open) + 1;
    symbols_[line.substr(name, open - name)] = std::stoul(line.substr(open + 1));
  }

  void entry(const std::string& head) {
    const size_t name = head.find(".entry") + 7;
    Entry& entry = entries_[head.substr(name, head.find_first_of("( ", name) - name)];
    registers_.clear();
    entry_ = &entry;
    std::map<std::string, int> labels;
    std::vector<std::pair<size_t, std::string>> branches;
    int depth = 0;
    for (std::string line; next(line);) {
      if (line == "{") {
        ++depth;
      } else if (line == "}") {
        if (--depth == 0) break;
      } else if (depth == 0 || line[0] == '.') {
        if (line.starts_with(".shared")) shared(line);  // the rest declares registers and parameters
      } else if (line.back() == ':') {
        labels[line.substr(0, line.size() - 1)] = static_cast<int>(entry.code.size());
      } else {
        while (line.back() != ';') {
          std::string more;
          if (!next(more)) fail(number_, "an instruction has no end");
          line += " " + more;
        }
        entry.code.push_back(instruction(line.substr(0, line.size() - 1)));
        if (entry.code.back().words[0] == "bra") branches.emplace_back(entry.code.size() - 1, target_);
      }
    }
    for (const auto& [at, label] : branches) {
      if (!labels.contains(label)) fail(entry.code[at].line, "there is no label " + label);
      entry.code[at].target = labels[label];
    }
    entry.registers = static_cast<int>(registers_.size());
  }

  Operand operand(const std::string& text) {
    static const std::map<std::string, Special> kSpecials = {
        {"%tid.x", kTidX},     {"%ntid.x", kNtidX},     {"%ctaid.x", kCtaidX},   {"%ctaid.y", kCtaidY},
        {"%ctaid.z", kCtaidZ}, {"%nctaid.x", kNctaidX}, {"%nctaid.y", kNctaidY}, {"%nctaid.z", kNctaidZ}};
    if (const auto special = kSpecials.find(text); special != kSpecials.end())
      return {Operand::kSpecial, 0, special->second};
    if (text[0] == '%')
      return {Operand::kRegister, registers_.try_emplace(text, static_cast<int>(registers_.size())).first->second, 0};
    if (text.starts_with("0f") || text.starts_with("0d"))
      return {Operand::kConstant, 0, std::stoull(text.substr(2), nullptr, 16)};
    if (symbols_.contains(text)) {  // an entry of ours has one piece of shared memory, at address 0
      entry_->shared_bytes = static_cast<uint32_t>(symbols_[text]);
      return {Operand::kConstant, 0, 0};
    }
    if (text.find("_param_") != std::string::npos) return {Operand::kConstant, 0, 0};  // and one parameter
    try {
      return {Operand::kConstant, 0,
              text[0] == '-' ? static_cast<uint64_t>(std::stoll(text, nullptr, 0)) : std::stoull(text, nullptr, 0)};
    } catch (const std::exception&) {
      fail(number_, "unknown operand " + text);
    }
  }

  // Appends what one written operand stands for; a memory operand leaves its offset in the instruction.
  void append(std::vector<Operand>& list, std::string text, Instruction& instruction) {
    if (text[0] == '{') {
      for (const std::string& part : split(text.substr(1, text.size() - 2))) list.push_back(operand(part));
    } else if (text[0] == '[') {
      text = text.substr(1, text.size() - 2);
      if (const size_t plus = text.rfind('+'); plus != std::string::npos) {
        instruction.offset = std::stoll(text.substr(plus + 1));
        text.resize(plus);
      }
      list.push_back(operand(trimmed(text)));
    } else {
      list.push_back(operand(text));
    }
  }

  Instruction instruction(std::string text) {
    Instruction result;
    result.line = number_;
    if (text[0] == '@') {
      const size_t end = text.find_first_of(" \t");
      result.guard_negated = text[1] == '!';
      result.guard = operand(text.substr(result.guard_negated ? 2 : 1, end - (result.guard_negated ? 2 : 1))).index;
      text = trimmed(text.substr(end));
    }
    const size_t end = text.find_first_of(" \t");
    std::stringstream name(text.substr(0, end));
    for (std::string word; std::getline(name, word, '.');) result.words.push_back(word);
    result.type = result.words.back();
    result.size = size_of(result.type);
    result.operation = operation_of(result.words);
    if (result.operation < 0) fail(number_, "unknown instruction " + text);
    if (result.words[0] == "cvt") {
      result.from_type = result.words.back();
      result.type = result.words[result.words.size() - 2];
      result.size = size_of(result.type);
    }
    const std::vector<std::string> parts = split(end == std::string::npos ? "" : text.substr(end));
    if (result.words[0] == "bra") {
      target_ = parts.at(0);
      return result;
    }
    const bool shuffles = result.words[0] == "shfl";  // writes a value and, after a bar, a predicate
    const size_t written = shuffles && text.find('|') != std::string::npos ? 2 : 1;
    for (size_t i = 0; i < parts.size(); ++i) append(i < written ? result.to : result.from, parts[i], result);
    if (result.words[0] == "mov") result.packs = parts[0][0] == '{' || (parts.size() > 1 && parts[1][0] == '{');
    return result;
  }

  std::istringstream lines_;
  int number_ = 0;
  std::map<std::string, Entry> entries_;
  std::map<std::string, uint64_t> symbols_;
  std::map<std::string, int> registers_;
  Entry* entry_ = nullptr;
  std::string target_;
};

}  // namespace

std::map<std::string, Entry> read_module(const std::string& text) {
  return Reader(text).read();
}

}  // namespace orrery::ptx

#include <regex>
#include <sstream>

#include "house/rules.h"

namespace orrery::testing {
namespace {

// Walks through one header, declaration by declaration. A declaration is documented by a "///" comment above it or behind it, or
// by standing in one paragraph (no blank line between) with one that is: the fields of a small struct share its comment. The private part of a class is not looked at, nor
// enumerators, nor what the language dictates: destructors, copies, moves.
class DocReader {
 public:
  explicit DocReader(std::string path) : path_(std::move(path)) {}

  std::vector<std::string> read(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      ++number_;
      read_line(line);
    }
    return breaches_;
  }

 private:
  struct Scope {
    enum Kind { kNamespace, kType, kEnum } kind;
    bool hidden;
  };

  void read_line(const std::string& line) {
    const size_t first = line.find_first_not_of(' ');
    if (first == std::string::npos) {
      if (declaration_.empty()) documented_ = false;
      return;
    }
    if (line[first] == '#') return;
    if (line.find("///") != std::string::npos) documented_ = true;
    for (char c : line.substr(0, line.find("//"))) read_character(c);
    if (!declaration_.empty()) declaration_ += ' ';
  }

  void read_character(char c) {
    if (body_depth_ > 0) {
      body_depth_ += (c == '{') - (c == '}');
      return;
    }
    if (c == ' ' && declaration_.empty()) return;
    if (declaration_.empty()) begin_ = number_;
    if (c == '(') ++parentheses_;
    if (c == ')') --parentheses_;
    if (parentheses_ > 0) {
      declaration_ += c;
    } else if (c == '{') {
      open_brace();
    } else if (c == '}') {
      if (!scopes_.empty()) scopes_.pop_back();
      documented_ = false;
      declaration_.clear();
    } else if (c == ';') {
      check();
      declaration_.clear();
    } else if (c == ':' && (declaration_ == "public" || declaration_ == "protected" || declaration_ == "private")) {
      if (!scopes_.empty()) scopes_.back().hidden = declaration_ == "private";
      declaration_.clear();
    } else {
      declaration_ += c;
    }
  }

  void open_brace() {
    static const std::regex type(R"(^(template <[^()]*> )?(class|struct|union)\b)"), enumeration("^enum\\b");
    if (declaration_.rfind("namespace", 0) == 0) {
      scopes_.push_back({Scope::kNamespace, false});
    } else if (std::regex_search(declaration_, enumeration)) {
      check();
      scopes_.push_back({Scope::kEnum, false});
    } else if (std::regex_search(declaration_, type)) {
      check();
      scopes_.push_back({Scope::kType, hidden()});
    } else {  // the body of a function, or an initialiser
      check();
      body_depth_ = 1;
    }
    declaration_.clear();
  }

  bool hidden() const { return !scopes_.empty() && (scopes_.back().hidden || scopes_.back().kind == Scope::kEnum); }

  void check() {
    static const std::regex dictated(R"(^(virtual )?~|operator=|^(explicit )?(\w+)\((const )?\3( ?&&?)( \w+)?\)|^friend )");
    if (declaration_.empty() || documented_ || hidden() || std::regex_search(declaration_, dictated)) return;
    breaches_.push_back(path_ + ":" + std::to_string(begin_) + ": has no doc comment: " + declaration_);
  }

  std::string path_, declaration_;
  int number_ = 0, begin_ = 0, body_depth_ = 0, parentheses_ = 0;
  bool documented_ = false;
  std::vector<Scope> scopes_;
  std::vector<std::string> breaches_;
};

}  // namespace

std::vector<std::string> doc_comment_breaches(const std::string& path, const std::string& text) {
  return DocReader(path).read(text);
}

}  // namespace orrery::testing

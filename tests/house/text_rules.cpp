#include <algorithm>
#include <filesystem>
#include <regex>
#include <sstream>

#include "house/rules.h"

namespace orrery::testing {
namespace {

std::vector<std::string> lines_that_match(const std::string& path, const std::string& text, const std::regex& pattern,
                                          const std::string& what) {
  std::vector<std::string> breaches;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.size() > 2000) continue;  // data without a line break, long enough to drown the regex engine
    std::smatch match;
    if (std::regex_search(line, match, pattern))
      breaches.push_back(path + ":" + std::to_string(number) + ": " + what + ": " + match.str());
  }
  return breaches;
}

}  // namespace

std::vector<std::string> public_header_breaches(const std::string& path, const std::string& text) {
  static const std::regex conditional(R"(^\s*#\s*(if|ifdef|ifndef|elif|else)\b)");
  static const std::regex foreign(R"re(^\s*#\s*include\s*(<(?!ATen/core/Tensor\.h>)[^>]*[/.][^>]*>|"(?!orrery/)[^"]*"))re");
  auto breaches = lines_that_match(path, text, conditional, "conditional compilation in a public header");
  for (auto& breach : lines_that_match(path, text, foreign, "foreign include in a public header")) breaches.push_back(breach);
  return breaches;
}

std::vector<std::string> length_breaches(const std::string& path, const std::string& text) {
  const auto lines = std::count(text.begin(), text.end(), '\n');
  if (lines <= 600) return {};
  return {path + ": has " + std::to_string(lines) + " lines, more than 600"};
}

std::vector<std::string> text_breaches(const std::string& path, const std::string& text) {
  // Written in pieces, so that this file keeps its own rule.
  static const std::regex machine(R"((^|[^\w.])/(root|home/\w|work/|Users/\w))");
  static const std::regex registry("(py" R"(pi\.org|pythonhosted\.org|conda\.anaconda|download\.py)" "torch|proxy\\.golang|npm" "js\\.)");
  static const std::regex undone("\\b(TO" "DO|FIX" "ME|XX" "X|HA" "CK)\\b");
  auto breaches = lines_that_match(path, text, machine, "a path of one machine");
  for (auto& breach : lines_that_match(path, text, registry, "a package registry's host name")) breaches.push_back(breach);
  for (auto& breach : lines_that_match(path, text, undone, "a note of work left to do")) breaches.push_back(breach);
  return breaches;
}

std::vector<std::string> link_breaches(const std::string& path, const std::string& text,
                                       const std::function<bool(const std::string&)>& exists) {
  static const std::regex link(R"(\]\(([^)#\s]+)[^)]*\))");
  std::vector<std::string> breaches;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.size() > 2000) continue;
    for (std::sregex_iterator match(line.begin(), line.end(), link), end; match != end; ++match) {
      const std::string target = (*match)[1];
      if (target.find(':') != std::string::npos) continue;  // not in this tree
      const auto place = (std::filesystem::path(path).parent_path() / target).lexically_normal();
      if (!exists(place.generic_string())) breaches.push_back(path + ":" + std::to_string(number) + ": leads nowhere: " + target);
    }
  }
  return breaches;
}

}  // namespace orrery::testing

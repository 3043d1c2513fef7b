#pragma once

#include <functional>
#include <string>
#include <vector>

namespace orrery::testing {

/// The house rules of docs/conventions.md that a machine can check. Each function takes a file's path from the root of the tree
/// and its text, and returns one line for each breach ("path:line: what").
std::vector<std::string> include_breaches(const std::string& path, const std::string& text);
/// Public headers only: std and ATen/core/Tensor.h, no conditional compilation.
std::vector<std::string> public_header_breaches(const std::string& path, const std::string& text);
/// Public headers only: every type, function, member and enumerator group has a doc comment.
std::vector<std::string> doc_comment_breaches(const std::string& path, const std::string& text);
/// At most 600 lines.
std::vector<std::string> length_breaches(const std::string& path, const std::string& text);
/// No absolute path of somebody's machine, no package registry's host name, no note that work is left to do.
std::vector<std::string> text_breaches(const std::string& path, const std::string& text);
/// Pages only: every link and picture that names a file names one of the tree. `exists` is asked with paths from its root.
std::vector<std::string> link_breaches(const std::string& path, const std::string& text,
                                       const std::function<bool(const std::string&)>& exists);

}  // namespace orrery::testing

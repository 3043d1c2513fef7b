#include "text/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "orrery/error.h"
#include "text/json_file.h"

namespace orrery::text {
namespace {

using Json = nlohmann::json;

// Empty where the file is not there.
Json read_if_there(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? read_json(path) : Json::object();
}

}  // namespace

AddedTokens AddedTokens::read(const std::filesystem::path& folder) {
  AddedTokens tokens;
  try {
    const Json config = read_if_there(folder / "tokenizer_config.json");
    const Json decoder = config.value("added_tokens_decoder", Json::object());  // items() refers to it, so it has a name
    for (const auto& [id, token] : decoder.items()) tokens.add(token.at("content").get<std::string>(), std::stoll(id));
    if (!tokens.tokens_.empty()) return tokens;  // tokenizer.json, which is large, would say the same
    const Json tokenizer = read_if_there(folder / "tokenizer.json"), listed = tokenizer.value("added_tokens", Json::array());
    for (const Json& token : listed) tokens.add(token.at("content").get<std::string>(), token.at("id").get<int64_t>());
  } catch (const std::logic_error& error) {  // a number that is none
    throw Error(ErrorKind::kConfig,
                {.place = folder.string(), .what = "lists added tokens without ids", .got = error.what()});
  } catch (const Json::exception& error) {
    throw Error(ErrorKind::kConfig,
                {.place = folder.string(), .what = "is no tokenizer that can be read", .got = error.what()});
  }
  return tokens;
}

void AddedTokens::add(std::string content, int64_t id) {
  if (content.empty() || find(content)) return;
  const auto longer = [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); };
  std::pair<std::string, int64_t> token(std::move(content), id);
  tokens_.insert(std::upper_bound(tokens_.begin(), tokens_.end(), token, longer), std::move(token));
}

std::optional<int64_t> AddedTokens::find(std::string_view content) const {
  for (const auto& [text, id] : tokens_)
    if (text == content) return id;
  return std::nullopt;
}

void AddedTokens::split(std::string_view text, const std::function<void(std::string_view)>& between,
                        const std::function<void(int64_t)>& token) const {
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    const auto found = std::find_if(tokens_.begin(), tokens_.end(),
                                    [&](const auto& each) { return text.substr(at).starts_with(each.first); });
    if (found == tokens_.end()) {
      ++at;
      continue;
    }
    if (at > start) between(text.substr(start, at - start));
    token(found->second);
    at += found->first.size();
    start = at;
  }
  if (start < text.size()) between(text.substr(start));
}

}  // namespace orrery::text

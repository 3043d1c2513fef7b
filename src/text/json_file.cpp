#include "text/json_file.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "orrery/error.h"

namespace orrery::text {

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw Error(ErrorKind::kConfig, {.place = path.string(), .what = "is no JSON object"});
  return json;
}

}  // namespace orrery::text

#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace orrery::text {

/// The JSON object that a tokenizer's file holds. Throws Error(kConfig) that names the file where it holds none.
nlohmann::json read_json(const std::filesystem::path& path);

}  // namespace orrery::text

#include "actions_file.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "orrery/arrays.h"
#include "orrery/component.h"
#include "orrery/error.h"
#include "orrery/weights.h"

namespace program {

namespace fs = std::filesystem;
using orrery::Error, orrery::ErrorKind;
using Rows = std::vector<std::vector<double>>;

namespace {

Rows rows_of(const at::Tensor& table, const fs::path& path) {
  std::ostringstream shape;
  shape << (table.is_complex() ? "complex " : "") << table.sizes();
  if (table.is_complex() || (table.dim() != 1 && table.dim() != 2) || table.size(0) == 0)
    throw Error(ErrorKind::kArgument, {.place = path.string() + ": actions",
                                       .what = "are no table",
                                       .expected = "real numbers [T, A], or [T] where a row is one number",
                                       .got = shape.str()});
  const at::Tensor rows = (table.dim() == 1 ? table.unsqueeze(1) : table).to(at::kDouble).contiguous();
  Rows out;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const double* row = rows.data_ptr<double>() + i * rows.size(1);
    out.emplace_back(row, row + rows.size(1));
  }
  return out;
}

std::vector<double> encoded(const std::string& name, const orrery::ActionSpace& space, const std::string& place) {
  try {
    return space.encode(name);
  } catch (const Error& error) {
    orrery::ErrorDetail detail = error.detail();
    detail.place = place + ": " + detail.place;
    throw Error(error.kind(), detail);
  }
}

}  // namespace

Rows read_actions(const fs::path& path, const orrery::ActionSpace& space) {
  if (path.extension() == ".npy") return rows_of(orrery::load_npy(path), path);
  if (path.extension() == ".safetensors") {
    const orrery::TensorMap tensors = orrery::load_safetensors(path);
    return rows_of(orrery::require_input(tensors, "actions", path.string()), path);
  }
  std::ifstream file(path);
  if (!file) throw Error(ErrorKind::kArgument, {.place = path.string(), .what = "cannot be read"});
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array())
    throw Error(
        ErrorKind::kArgument,
        {.place = path.string(), .what = "holds no actions", .expected = "a .npy, a .safetensors, or a JSON array of rows"});
  Rows out;
  for (const auto& row : json) {
    if (row.is_string()) {
      out.push_back(encoded(row.get<std::string>(), space, path.string() + ": row " + std::to_string(out.size())));
      continue;
    }
    std::vector<double>& numbers = out.emplace_back();  // what is no number is refused, with its row, before its step
    const auto add = [&](const nlohmann::json& value) {
      numbers.push_back(value.is_number() ? value.get<double>() : std::nan(""));
    };
    if (row.is_array())
      for (const auto& value : row) add(value);
    else
      add(row);
  }
  if (out.empty()) throw Error(ErrorKind::kArgument, {.place = path.string(), .what = "holds no actions", .got = "0 rows"});
  return out;
}

}  // namespace program

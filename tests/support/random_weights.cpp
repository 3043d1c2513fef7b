#include "support/random_weights.h"

#include <ATen/ATen.h>

#include <cmath>
#include <memory>
#include <sstream>
#include <vector>

#include "models/registry.h"

namespace orrery::testing {
namespace {

Weights::Report asked_for(const std::string& class_name, const Config& config, const TensorMap& there) {
  const auto report = std::make_shared<Weights::Report>();
  models::entry_of(class_name, "").build(config, Weights::from(there, "random").collecting(report));
  return *report;
}

// "name: expected [2, 3], got [0]"
std::pair<std::string, std::vector<int64_t>> parsed(const std::string& line) {
  const size_t colon = line.find(": expected [");
  std::istringstream sizes(line.substr(colon + 12));
  std::vector<int64_t> shape;
  char comma = ',';
  for (int64_t size = 0; comma == ',' && sizes >> size; sizes >> comma) shape.push_back(size);
  return {line.substr(0, colon), shape};
}

}  // namespace

TensorMap random_weights(const std::string& class_name, const Config& config, TensorMap given) {
  TensorMap weights = std::move(given);
  for (const std::string& name : asked_for(class_name, config, weights).missing) weights[name] = at::empty({0});
  for (const std::string& line : asked_for(class_name, config, weights).misshapen) {
    const auto [name, shape] = parsed(line);
    int64_t inputs = 1;
    for (size_t i = 1; i < shape.size(); ++i) inputs *= shape[i];
    weights[name] = shape.size() == 1 ? at::ones(shape, at::kBFloat16)
                                      : (at::randn(shape) / std::sqrt(static_cast<double>(inputs))).to(at::kBFloat16);
  }
  return weights;
}

}  // namespace orrery::testing

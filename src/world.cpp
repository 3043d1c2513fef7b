#include "orrery/world.h"

#include <ATen/ATen.h>

#include "models/registry.h"
#include "orrery/error.h"

namespace orrery {

State State::fork() const { return State(*this); }

int64_t State::bytes() const {
  int64_t sum = last.defined() ? static_cast<int64_t>(last.nbytes()) : 0;
  for (const at::Tensor& cache : caches) sum += static_cast<int64_t>(cache.nbytes());
  return sum;
}

World::~World() = default;

std::unique_ptr<World> World::from_pretrained(const std::string& path, const LoadOptions& options) {
  const ModelDescription model = describe_model(path, options.work);
  return models::world_entry_of(model.class_name, path).build(model, options);
}

std::vector<double> World::encode_action(const std::string& name) const {
  const auto& named = action_space().named;
  if (const auto found = named.find(name); found != named.end()) return found->second;
  std::string known;
  for (const auto& [each, row] : named) known += (known.empty() ? "'" : ", '") + each + "'";
  throw Error(ErrorKind::kArgument,
              {.place = "action", .what = "has a name that this world does not know", .expected = "one of " + known, .got = "'" + name + "'"});
}

}  // namespace orrery

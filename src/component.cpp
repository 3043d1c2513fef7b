#include "orrery/component.h"

#include "orrery/error.h"

namespace orrery {

Component::~Component() = default;

at::Tensor require_input(const TensorMap& inputs, const std::string& name, const std::string& call) {
  if (const auto found = inputs.find(name); found != inputs.end()) return found->second;
  std::string given;
  for (const auto& [key, tensor] : inputs) given += (given.empty() ? "'" : ", '") + key + "'";
  throw Error(ErrorKind::kArgument, {.place = call,
                                     .what = "an input is missing",
                                     .expected = "a tensor named '" + name + "'",
                                     .got = given.empty() ? "no tensors" : given});
}

}  // namespace orrery

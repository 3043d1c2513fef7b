#pragma once

#include <set>
#include <string>
#include <vector>

namespace orrery::weights_detail {

/// What training code wraps around a model's names.
struct Wrappers {
  std::string common;            ///< stands before every name that is not hidden, e.g. "module.net."; mostly empty
  std::set<std::string> hidden;  ///< names of no use for running: averaged copies beside the model, `_extra_state`
};

/// Finds them in the (sorted) names of a checkpoint.
Wrappers find_wrappers(const std::vector<std::string>& names);

}  // namespace orrery::weights_detail

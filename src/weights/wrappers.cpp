#include "weights/wrappers.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace orrery::weights_detail {
namespace {

constexpr std::array<std::string_view, 5> kWrappers = {"net.", "net_ema.", "model.", "module.", "_orig_mod."};
// (the model, its averaged copy): the copy is hidden only where the model itself is there.
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kAveraged = {
    {{"net.", "net_ema."}, {"model.", "model_ema."}}};

bool at_position(std::string_view name, size_t position, std::string_view part) {
  return name.substr(std::min(position, name.size())).starts_with(part);
}

}  // namespace

Wrappers find_wrappers(const std::vector<std::string>& names) {
  Wrappers wrappers;
  std::vector<std::string_view> visible;
  for (const std::string& name : names) {
    if (name == "_extra_state" || name.ends_with("._extra_state"))
      wrappers.hidden.insert(name);
    else
      visible.push_back(name);
  }
  for (bool found = true; found && !visible.empty();) {
    found = false;
    const size_t depth = wrappers.common.size();
    const auto starts = [&](std::string_view part) {
      return [=](std::string_view n) { return at_position(n, depth, part); };
    };
    for (const auto& [plain, averaged] : kAveraged) {
      if (std::none_of(visible.begin(), visible.end(), starts(plain))) continue;
      std::erase_if(visible, [&, averaged = averaged](std::string_view name) {
        const bool hide = at_position(name, depth, averaged);
        if (hide) wrappers.hidden.emplace(name);
        return hide;
      });
    }
    for (const std::string_view wrapper : kWrappers) {
      // A name must remain: "net.weight" loses its wrapper, a tensor called "net." keeps it.
      const auto wrapped = [&](std::string_view n) { return starts(wrapper)(n) && n.size() > depth + wrapper.size(); };
      if (!std::all_of(visible.begin(), visible.end(), wrapped)) continue;
      wrappers.common += wrapper;
      found = true;
      break;
    }
  }
  return wrappers;
}

}  // namespace orrery::weights_detail

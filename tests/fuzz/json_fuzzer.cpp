#include <string_view>

#include "hub/listing.h"
#include "orrery/config.h"
#include "orrery/error.h"

namespace {

template <typename Call>
void errors_only(Call call) {
  try {
    call();
  } catch (const orrery::Error&) {
  }
}

void read_all(const orrery::Config& config) {
  for (const std::string& key : config.keys()) {
    errors_only([&] { config.get<bool>(key, false); });
    errors_only([&] { config.get<int64_t>(key, 0); });
    errors_only([&] { config.get<double>(key, 0); });
    errors_only([&] { config.require<std::string>(key); });
    errors_only([&] { config.find<std::vector<int64_t>>(key); });
    errors_only([&] { config.find<std::vector<std::string>>(key); });
    errors_only([&] { read_all(config.object(key)); });
    errors_only([&] {
      for (const orrery::Config& item : config.objects(key)) read_all(item);
    });
  }
  config.unread();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  errors_only([&] {
    const orrery::Config config = orrery::Config::parse(text, "input");
    read_all(config);
    orrery::Config::parse(config.dump(), "its own dump");
  });
  errors_only([&] {
    const auto listing = orrery::hub_detail::parse_listing(text, "input");
    orrery::hub_detail::choose_files(listing, "", {}, {});
  });
  orrery::hub_detail::parts_of_pipeline(text);
  return 0;
}

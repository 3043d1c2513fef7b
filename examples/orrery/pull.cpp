// orrery pull: brings a model of the hub into the local cache.
#include <cstdio>
#include <memory>

#include "orrery/hub.h"
#include "program.h"

namespace program {

void add_pull(CLI::App& app) {
  const auto id = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("pull", "Bring a model of the hub into the local cache");
  command->add_option("ID", *id, "org/name[@revision][:subfolder]")->required();
  command->final_callback([=] { std::puts(orrery::pull(*id, work()).c_str()); });
}

}  // namespace program

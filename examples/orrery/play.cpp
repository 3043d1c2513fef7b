// orrery play: a page on which people drive an interactive world.
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/world.h"
#include "play/server.h"
#include "program.h"
#include "world_prompt.h"

namespace program {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  fs::path image, embeds;
  std::string prompt;
  std::string listen = "127.0.0.1:8080";
};

// A folder that is gone when the program ends.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "orrery-play-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
      throw orrery::Error(orrery::ErrorKind::kDevice, {.place = name, .what = "cannot be made", .hint = "set TMPDIR"});
    path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

nlohmann::json about(const orrery::World& world, double rate_hz, bool takes_picture) {
  const orrery::ActionSpace& space = world.action_space();
  return {{"name", space.name},
          {"discrete", space.discrete},
          {"width", space.width},
          {"names", space.names},
          {"low", space.low},
          {"high", space.high},
          {"units", space.units},
          {"rate_hz", rate_hz},
          {"named", space.named},
          {"idle", space.idle},
          {"keys", space.keys},
          {"keys_add", space.keys_add},
          {"key_deltas", space.key_deltas},
          {"pointer", space.pointer},
          {"pointer_turn", space.pointer_turn},
          {"takes_prompt", world.takes_prompt()},
          {"takes_picture", takes_picture},
          {"height", world.height()},
          {"frame_width", world.width()}};
}

// What a world begins with: the picture given, or what lies with a bundled world, a picture or measured states.
orrery::Video first_picture(const Options& options, const orrery::World& world, orrery::WorldPrompt& prompt) {
  if (!options.image.empty()) return orrery::read_image(options.image);
  if (world.action_space().width == 0 || prompt.conditions.known.defined()) return {};  // it begins with words, or states
  const fs::path samples = orrery::describe_model(options.model.path).path / "sample", sample = samples / "first_frame.png";
  if (const fs::path states = samples / "first_states.safetensors"; fs::exists(states)) {
    prompt.conditions = read_prompt(states).conditions;
    return {};
  }
  if (!fs::exists(sample))
    throw orrery::Error(orrery::ErrorKind::kArgument, {.place = "--image",
                                                       .what = "is missing, and this world brings no picture to begin with",
                                                       .hint = "give one with -i"});
  return orrery::read_image(sample);
}

void run(const Options& options) {
  const play::Place place = play::parse_place(options.listen);
  const auto world = orrery::World::from_pretrained(options.model.path, options.model.load());
  const TemporaryFolder folder;
  const double rate = world->action_space().rate_hz > 0 ? world->action_space().rate_hz : 10;
  play::Setting setting;
  setting.world = world.get();
  setting.prompt = read_prompt(options.embeds, options.prompt);
  setting.first = first_picture(options, *world, setting.prompt);
  setting.rate_hz = rate;
  setting.folder = folder.path;
  world->begin(setting.first, 0, setting.prompt);  // a picture that this world cannot use is told now
  const bool takes_picture = setting.first.num_frames() > 0;
  play::Server server(place, std::move(setting), about(*world, rate, takes_picture).dump());
  std::printf("%s\n", server.url().c_str());
  std::fflush(stdout);
  std::fputs("Open this address in a browser. Ctrl-C ends.\n", stderr);
  const orrery::WorkOptions watch = work();
  server.run([&] { return watch.cancel.cancelled(); });
}

}  // namespace

void add_play(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("play", "Serve a page on which people drive an interactive world");
  options->model.add_to(*command);
  command->add_option("-i,--image", options->image, "Picture to begin with; the model's own sample if not given");
  command->add_option("-p,--prompt", options->prompt, "What happens at first, in words, for a world that takes some");
  command->add_option(
      "--embeds", options->embeds,
      "Safetensors file: `prompt_embeds` [1,L,D] in place of the words, `image_embeds` [1,L,D] of the picture");
  command
      ->add_option(
          "--listen", options->listen,
          "Address and port; port 0 takes any that is free. Elsewhere than on loopback the address printed bears a token")
      ->check([](const std::string& text) {
        try {
          play::parse_place(text);
          return std::string();
        } catch (const orrery::Error& error) {
          return error.detail().what + "; expected " + error.detail().expected + ", got " + error.detail().got;
        }
      })
      ->capture_default_str();
  command->final_callback([=] { run(*options); });
}

}  // namespace program

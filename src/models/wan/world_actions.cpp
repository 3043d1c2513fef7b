#include "models/wan/world_actions.h"

#include <string>

namespace orrery::models {
namespace {

constexpr double kFramesPerSecond = 25;
constexpr double kTurn = 0.1;  // of the mouse, as the games were recorded

struct Game {
  const char* name;
  std::vector<const char*> keys;
  bool one_at_a_time;
};

// The releases, told apart by their number of keys.
Game game_of(int64_t keys) {
  if (keys == 2) return {"driving", {"forward", "back"}, false};
  if (keys == 7) return {"running", {"nothing", "jump", "slide", "turn left", "turn right", "left", "right"}, true};
  return {"walking", {"forward", "back", "left", "right"}, false};
}

// A text-to-video stream goes on by itself: its rows are empty.
ActionSpace nothing_but_words() {
  ActionSpace space;
  space.name = "words";
  space.width = 0;
  space.units = "none: this world follows words alone";
  space.rate_hz = 16;  // of the frames
  return space;
}

}  // namespace

ActionSpace game_actions(const Config& network) {
  if (!network.has("action_config")) return nothing_but_words();
  const ActionModuleConfig config(network.object("action_config"));
  const int64_t held = config.vae_time_compression_ratio * network.get<int64_t>("num_frame_per_block", 3);
  const Game game = game_of(config.keyboard_dim_in);
  ActionSpace space;
  space.name = game.name;
  space.rate_hz = kFramesPerSecond;  // of the frames
  space.units = config.enable_mouse ? "keys 0 or 1; mouse in the recordings' own unit, 0.1 a steady turn" : "keys 0 or 1";
  space.units += "; a row is held for " + std::to_string(held) + " frames";
  for (int64_t i = 0; i < config.keyboard_dim_in; ++i)
    space.names.push_back(i < static_cast<int64_t>(game.keys.size()) ? game.keys[i] : "key " + std::to_string(i));
  space.low.assign(space.names.size(), 0);
  space.high.assign(space.names.size(), 1);
  if (config.enable_mouse) {
    space.names.insert(space.names.end(), {"mouse pitch", "mouse yaw"});
    space.low.insert(space.low.end(), {-1, -1});
    space.high.insert(space.high.end(), {1, 1});
  }
  space.width = static_cast<int64_t>(space.names.size());

  std::vector<double> still(space.names.size(), 0.0);
  if (!game.one_at_a_time) space.named["nothing"] = still;
  for (int64_t i = 0; i < config.keyboard_dim_in; ++i) {
    std::vector<double> row = still;
    row[i] = 1;
    space.named[space.names[i]] = row;
    if (i < 4 && !game.one_at_a_time) space.named["move " + space.names[i]] = row;
  }
  space.idle = still;
  if (game.one_at_a_time) {
    space.idle = space.named.at("nothing");
    space.keys = {{"w", "jump"}, {"s", "slide"}, {"z", "turn left"}, {"c", "turn right"}, {"a", "left"}, {"d", "right"}};
  } else {
    space.keys_add = true;
    for (const auto& [key, name] : {std::pair{"w", "forward"}, {"s", "back"}, {"a", "left"}, {"d", "right"}})
      if (space.named.contains(name)) space.keys[key] = name;
  }
  if (!config.enable_mouse) return space;
  space.pointer = {space.width - 1, space.width - 2};  // yaw to the right, pitch up
  space.pointer_turn = {kTurn, -kTurn};
  const auto turn = [&](const char* name, size_t back, double by) {
    std::vector<double> row = still;
    row[row.size() - back] = by;
    space.named[name] = row;
  };
  turn("look up", 2, kTurn);
  turn("look down", 2, -kTurn);
  turn("look right", 1, kTurn);
  turn("look left", 1, -kTurn);
  space.keys.insert(
      {{"ArrowUp", "look up"}, {"ArrowDown", "look down"}, {"ArrowLeft", "look left"}, {"ArrowRight", "look right"}});
  return space;
}

}  // namespace orrery::models

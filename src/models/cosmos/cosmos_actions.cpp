#include "models/cosmos/cosmos_actions.h"

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr int64_t kBridgeWidth = 7;
constexpr int64_t kRowsPerChunk = 12;  // that every release was trained with
constexpr double kFramesPerSecond = 4;
constexpr double kDeltaScale = 20, kGripperScale = 1;
// A deliberate step: about twice the spread of the data set's rows.
constexpr double kMove = 0.02, kTurn = 0.1;

// The arm's own axes: x forward, y left, z up.
void name_bridge(ActionSpace& space) {
  space.name = "bridge";
  space.names = {"x", "y", "z", "roll", "pitch", "yaw", "gripper"};
  space.units = "metres and radians in the gripper's frame before the row; gripper 0 open, 1 closed";
  space.normalisation = "times 20, the gripper as it is";
  const std::vector<double> still(kBridgeWidth, 0.0);
  const auto name = [&](const char* what, size_t column, double value) { (space.named[what] = still)[column] = value; };
  const auto both_ways = [&](const char* there, const char* back, size_t column, double value) {
    name(there, column, value);
    name(back, column, -value);
  };
  space.named["nothing"] = space.named["open gripper"] = still;
  both_ways("move forward", "move back", 0, kMove);
  both_ways("move left", "move right", 1, kMove);
  both_ways("move up", "move down", 2, kMove);
  both_ways("roll right", "roll left", 3, kTurn);
  both_ways("pitch down", "pitch up", 4, kTurn);
  both_ways("turn left", "turn right", 5, kTurn);
  name("close gripper", 6, 1);
  space.keys = {{"w", "move forward"},        {"s", "move back"},      {"a", "move left"},
                {"d", "move right"},          {"r", "move up"},        {"f", "move down"},
                {"q", "roll left"},           {"e", "roll right"},     {"ArrowLeft", "turn left"},
                {"ArrowRight", "turn right"}, {"ArrowUp", "pitch up"}, {"ArrowDown", "pitch down"},
                {" ", "close gripper"}};
  space.keys_add = true;
  space.idle = still;
}

}  // namespace

CosmosActions::CosmosActions(int64_t features, int64_t per_latent_frame) : per_latent_frame_(per_latent_frame) {
  space_.width = per_latent_frame > 0 ? features / per_latent_frame : kBridgeWidth;
  space_.rows_per_step = per_latent_frame > 0 ? kRowsPerChunk : features / kBridgeWidth;
  space_.rate_hz = kFramesPerSecond;
  const int64_t rows = per_latent_frame > 0 ? per_latent_frame : space_.rows_per_step;
  if (rows < 1 || rows * space_.width != features)
    throw Error(ErrorKind::kUnsupported,
                {.place = "action_embedder_B_D.fc1.weight",
                 .what = "takes no whole rows of actions",
                 .expected = "a multiple of " + std::to_string(per_latent_frame > 0 ? per_latent_frame : kBridgeWidth),
                 .got = std::to_string(features)});
  scale_.assign(space_.width, 1.0);
  if (space_.width == kBridgeWidth) {
    scale_.assign(kBridgeWidth, kDeltaScale);
    scale_.back() = kGripperScale;
    name_bridge(space_);
    return;
  }
  space_.name = "robot";
  space_.units = "as the checkpoint was trained: normalised by statistics that are not in its file";
  space_.normalisation = "none";
  for (int64_t i = 0; i < space_.width; ++i) space_.names.push_back("number " + std::to_string(i));
}

CosmosActions CosmosActions::by_latent_frame() const {
  CosmosActions actions = *this;
  actions.space_.rows_per_step = per_latent_frame_;
  return actions;
}

at::Tensor CosmosActions::normalised(const at::Tensor& rows) const {
  return (rows.to(at::kDouble) * at::tensor(scale_, at::kDouble)).to(at::kFloat).unsqueeze(0);
}

at::Tensor as_written_pictures(const at::Tensor& frames) {
  constexpr double kLevels = 255;
  return ((frames * 0.5 + 0.5).clamp(0, 1) * kLevels).floor() / (kLevels / 2) - 1;
}

namespace {

CosmosActions actions_of(const ModelDescription& model) {
  for (const ComponentDescription& part : model.components)
    if (part.name == "transformer")
      return CosmosActions(part.config.get<int64_t>("action_features", 0),
                           part.config.get<int64_t>("actions_per_latent_frame", 0));
  throw Error(ErrorKind::kConfig, {.place = model.path.string(), .what = "the part 'transformer' is missing"});
}

}  // namespace

ActionSpace cosmos_action_space(const ModelDescription& model) {
  return actions_of(model).space();
}

ActionSpace cosmos_causal_action_space(const ModelDescription& model) {
  return actions_of(model).by_latent_frame().space();
}

}  // namespace orrery::models

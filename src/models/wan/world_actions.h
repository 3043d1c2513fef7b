#pragma once

#include "models/wan/action_module.h"
#include "orrery/world.h"

namespace orrery::models {

/// What the rows of a game mean whose network has this config: its keys, then the mouse. One row is held for a block. Of a
/// network without actions, rows are empty.
ActionSpace game_actions(const Config& network);

}  // namespace orrery::models

#include "orrery/diffusion.h"

namespace orrery {

DiffusionRun::~DiffusionRun() = default;
DiffusionRecipe::~DiffusionRecipe() = default;

}  // namespace orrery

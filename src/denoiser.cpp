#include "orrery/denoiser.h"

namespace orrery {

Denoiser::Context::~Context() = default;

}  // namespace orrery

#pragma once

#include <c10/core/Device.h>

namespace orrery::testing {

/// A device of LibTorch (`privateuseone`) whose memory the processor cannot touch, as a GPU's: a pointer into it faults. Its
/// operations are the processor's own, on copies. What runs here and gives the right numbers goes through LibTorch's
/// operations alone and makes every table where its weights are; so it also runs on any device that LibTorch has.
c10::Device far_device();

}  // namespace orrery::testing

#pragma once

#include <cstdint>

#include "orrery/load.h"

namespace orrery::pipeline {

/// The component as it is to be loaded with so many bytes: one whose weights would take more than half of them streams its
/// blocks.
ComponentDescription within(const ComponentDescription& component, int64_t max_memory);

}  // namespace orrery::pipeline

#pragma once

#include <cstdint>

namespace orrery {

// The envelopes of State::save() and Recording::to_bytes(); a change of what is inside raises the version.
constexpr const char* kStateKind = "ORRERYST";
constexpr const char* kRecordingKind = "ORRERYRC";
constexpr uint32_t kStateVersion = 1, kRecordingVersion = 2;

}  // namespace orrery

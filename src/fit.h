#pragma once

#include "orrery/tokenizer.h"

namespace orrery {

/// The clip as a tokenizer of this kind can take it: unchanged where it fits; else padded (the last frame and the edges
/// repeated) or trimmed (at the end, the right and the bottom). Throws Error(kArgument) naming what fits when that is not
/// asked for.
Video fitted(const Video& video, const CodecSpec& spec, FitMode mode);

}  // namespace orrery

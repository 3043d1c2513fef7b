#pragma once

#include <functional>

namespace orrery::ops {

/// Runs `here`, and `beside` at the same time in a thread that sleeps between such calls. Where that thread has not begun when
/// `here` is done (a busy machine), where it works for somebody else, or where LibTorch may use one thread only, `beside`
/// runs here afterwards: nobody waits for a thread that does not run. For work of some tenths of a millisecond, for which
/// the barriers of at::parallel_for cost more than they gain as soon as other programs want the processor.
/// Neither runs on return. What either throws is thrown; where `here` does, `beside` may not have run.
void run_beside(const std::function<void()>& here, const std::function<void()>& beside);

}  // namespace orrery::ops

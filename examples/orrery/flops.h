// How much arithmetic a piece of work is, and how much this machine can do.
#pragma once

#include <functional>

namespace program {

/// Floating-point operations (2 a multiply-add) of the convolutions, matrix products and attentions that LibTorch and our
/// own operations run during `work` on this thread, as the direct methods need them; pointwise work is not counted.
double count_flops(const std::function<void()>& work);

/// The most float32 operations a second that a large matrix product reaches here with the threads in force; takes about a
/// second.
double measured_peak_flops();

}  // namespace program

#pragma once

namespace orrery::ops {

/// The address of a symbol of liborrery_cuda.so, which is looked for beside liborrery.so and then where the system looks,
/// and loaded once. Throws Error(kUnsupported) naming `op` where it cannot be had.
void* cuda_symbol(const char* symbol, const char* op);
/// Whether it can be loaded.
bool has_cuda_library();

}  // namespace orrery::ops

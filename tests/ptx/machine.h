#pragma once

#include <string>

#include "simt/simt.h"

namespace orrery::ptx {

/// Runs kernels as nvcc compiled them: of all .ptx files in a folder the entry that bears the C++ name of the kernel.
/// Threads, barriers and asynchronous copies are the emulation's; arithmetic, addresses and fragments of matrices are its
/// own.
simt::Machine machine_of(const std::string& folder);

}  // namespace orrery::ptx

#pragma once

#include <string>

namespace orrery::ops {

/// The address of a symbol of liborrery_cuda.so, which is looked for beside liborrery.so and then where the system looks,
/// and loaded once. Throws Error(kUnsupported) naming `op` where it cannot be had.
void* cuda_symbol(const char* symbol, const char* op);
/// Whether it can be loaded.
bool has_cuda_library();

/// Makes LibTorch know its CUDA graphs by their general name (at::create_graph_impl): liborrery_cuda_graph.so, which is
/// looked for in the same places. LibTorch's own CUDA library must have been loaded. Whether it could be: without it no step
/// is recorded.
bool load_cuda_graphs();

/// The compute capability (10 · major + minor) of a GPU as our CUDA library sees it; 0 where that cannot be asked.
int cuda_capability(int device);
/// Throws Error(kDevice) for a GPU, `device` by name, that is older than the kernels are compiled for. 0 is not known, and
/// good.
void require_capability(int capability, const std::string& device);

}  // namespace orrery::ops

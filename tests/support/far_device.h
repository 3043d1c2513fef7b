#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <string>

namespace orrery::testing {

/// A device of LibTorch (`privateuseone`) whose memory the processor cannot touch, as a GPU's: a pointer into it faults. Its
/// operations are the processor's own, on copies; our CUDA kernels run on it as the emulation runs them (tests/simt). What
/// runs here and gives the right numbers goes through LibTorch's operations and our kernels alone and makes every table
/// where its weights are; so it also runs on any device that LibTorch has. An operation that is given tensors of both is
/// refused, as on a GPU. With ORRERY_FAR_DEVICE=cuda in the environment it is one (tests/gpu/check.sh), and what is said of
/// its bytes below does not hold.
c10::Device far_device();
/// The most bytes that it has held since this was last asked; what it holds now counts from here on.
int64_t take_far_peak();
/// How often each kernel was started there since this was last asked.
std::map<std::string, int64_t> take_far_launches();
/// What its streams did since this was last asked, and what a GPU would have suffered from it.
struct FarStreams {
  int64_t host_waits = 0;  ///< times that the host waited for results: what a steady step must not
  int64_t races = 0;   ///< times that a stream touched memory which another one may still have been using, or got it back
  int64_t beside = 0;  ///< touches that had not to wait for all that another stream was given before: they may overlap it
  int64_t uploaded_pinned = 0, uploaded_pageable = 0;  ///< bytes that came from the processor
};
FarStreams take_far_streams();
/// From now on it holds so many bytes and no more: then it is out of memory, as a GPU. 0: any number.
void limit_far_memory(int64_t bytes);

}  // namespace orrery::testing

#include "support/peak_memory.h"

#include <malloc.h>

#include <fstream>
#include <string>

namespace orrery::testing {
namespace {

bool reset_peak() {
  std::ofstream file("/proc/self/clear_refs");
  return static_cast<bool>(file << "5" << std::flush);
}

int64_t status(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return std::stoll(line.substr(key.size() + 1)) * 1024;
  return 0;
}

}  // namespace

bool can_measure_peak_memory() {
#if defined(ORRERY_SANITIZED)  // not __SANITIZE_ADDRESS__: the tests themselves are compiled without
  return false;
#else
  return reset_peak();
#endif
}

int64_t peak_memory_of(const std::function<void()>& work) {
  // Large blocks lie in mappings of their own and go back when they are freed, as the program's do (keep_tensor_pages). Else
  // the heap takes ever larger ones the more was freed before, and its holes count as memory that is used: with 1 MiB in place
  // of glibc's first 128 KiB a mid-size network took 52 to 71 MB of the 43 MB that it holds, differing from run to run.
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  malloc_trim(0);  // what was freed is given back, so that it is not there to be used again unseen
  reset_peak();
  const int64_t before = status("VmRSS");
  work();
  return status("VmHWM") - before;
}

}  // namespace orrery::testing

#include "ops/cuda_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <string>

#include "orrery/error.h"

namespace orrery::ops {
namespace {

constexpr const char* kName = "liborrery_cuda.so";
constexpr const char* kGraphs = "liborrery_cuda_graph.so";

struct Library {
  void* handle = nullptr;
  std::string problem;
};

Library open_library(const char* name) {
  Library library;
  Dl_info here;
  if (dladdr(reinterpret_cast<void*>(&cuda_symbol), &here) != 0 && here.dli_fname != nullptr) {
    const auto beside = std::filesystem::path(here.dli_fname).parent_path() / name;
    library.handle = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  if (!library.handle) library.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (const char* why = library.handle ? nullptr : dlerror()) library.problem = why;
  return library;
}

const Library& the_library() {
  static const Library library = open_library(kName);
  return library;
}

}  // namespace

bool has_cuda_library() {
  return the_library().handle != nullptr;
}

void* cuda_symbol(const char* symbol, const char* op) {
  const Library& library = the_library();
  if (!library.handle)
    throw Error(ErrorKind::kUnsupported, {.place = op,
                                          .what = "needs the CUDA kernels, which cannot be loaded",
                                          .expected = kName,
                                          .got = library.problem,
                                          .hint = "build with -DORRERY_CUDA=ON, or use the device cpu"});
  void* address = dlsym(library.handle, symbol);
  if (!address)
    throw Error(ErrorKind::kUnsupported, {.place = op,
                                          .what = std::string("the CUDA library is of another version: it has no ") + symbol,
                                          .hint = "use the liborrery_cuda.so that was built with this liborrery.so"});
  return address;
}

bool load_cuda_graphs() {
  static const bool loaded = [] {
    const Library library = open_library(kGraphs);
    const auto begin = library.handle ? dlsym(library.handle, "orrery_register_cuda_graphs") : nullptr;
    if (begin) reinterpret_cast<void (*)()>(begin)();
    return begin != nullptr;
  }();
  return loaded;
}

int cuda_capability(int device) {
  if (!has_cuda_library()) return 0;
  const int told = reinterpret_cast<int (*)(int)>(cuda_symbol("orrery_cuda_capability", "device"))(device);
  return told > 0 ? told : 0;
}

void require_capability(int capability, const std::string& device) {
  constexpr int kOldest = 80;  // cmake/OrreryCuda.cmake
  if (capability == 0 || capability >= kOldest) return;
  const auto text = [](int number) { return std::to_string(number / 10) + "." + std::to_string(number % 10); };
  throw Error(ErrorKind::kDevice,
              {.place = "device " + device,
               .what = "this GPU is too old for the CUDA kernels",
               .expected = "compute capability " + text(kOldest) + " or newer",
               .got = text(capability),
               .hint = "use --device cpu, which reads weights from their file as it needs them and so runs "
                       "what a GPU would stream or cut into tiles"});
}

}  // namespace orrery::ops

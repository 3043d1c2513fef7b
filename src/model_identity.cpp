#include "model_identity.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "content_hash.h"
#include "orrery/error.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

// What makes a model behave as it does; samples, pictures and pages about it may change.
bool counts(const fs::path& file) {
  static const std::set<std::string> kinds = {".json", ".safetensors", ".pt",    ".pth", ".jit",
                                              ".ckpt", ".bin",         ".model", ".npz", ".txt"};
  return kinds.contains(file.extension().string());
}

void add_file(ContentHash& hash, const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<char> block(1 << 20);
  while (stream.read(block.data(), static_cast<std::streamsize>(block.size())) || stream.gcount() > 0)
    hash.add(block.data(), static_cast<size_t>(stream.gcount()));
  if (stream.bad()) throw Error(ErrorKind::kWeights, {.place = file.string(), .what = "cannot be read"});
}

}  // namespace

uint64_t ModelIdentity::hash() const {
  std::call_once(once_, [this] {
    ContentHash hash;
    std::vector<fs::path> files;
    if (fs::is_directory(place_)) {
      for (auto entry = fs::recursive_directory_iterator(place_); entry != fs::end(entry); ++entry) {
        if (entry->is_directory() && entry->path().filename() == "sample") entry.disable_recursion_pending();
        if (entry->is_regular_file() && counts(entry->path())) files.push_back(entry->path());
      }
    } else if (!place_.empty()) {
      files.push_back(place_);
    }
    std::sort(files.begin(), files.end(), [this](const fs::path& a, const fs::path& b) {
      return fs::relative(a, place_).generic_string() < fs::relative(b, place_).generic_string();
    });
    for (const fs::path& file : files) {
      hash.add(file.filename().string());
      add_file(hash, file);
    }
    hash_ = hash.value();
  });
  return hash_;
}

}  // namespace orrery

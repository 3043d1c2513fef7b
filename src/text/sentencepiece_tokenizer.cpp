#include "text/sentencepiece_tokenizer.h"

#include <dlfcn.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "orrery/error.h"
#include "text/sentencepiece_module.h"
#include "text/utf8.h"

namespace orrery::text {
namespace {

constexpr const char* kModule = "liborrery_sentencepiece.so";
#ifdef __SANITIZE_ADDRESS__
constexpr int kMode = RTLD_NOW | RTLD_LOCAL;  // AddressSanitizer refuses the other
#else
constexpr int kMode = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif

// Looked for beside liborrery.so, in the lib beside a program that holds orrery itself (the sanitizers' dlopen does not know
// the program's own search path), then where the system looks; loaded once.
std::unique_ptr<SentencePieceModel> new_model() {
  static void* const module = [] {
    Dl_info here;
    void* found = nullptr;
    if (dladdr(reinterpret_cast<void*>(&new_model), &here) != 0 && here.dli_fname != nullptr) {
      const std::filesystem::path folder = std::filesystem::path(here.dli_fname).parent_path();
      for (const std::filesystem::path& place : {folder, folder.parent_path() / "lib"})
        if (!found) found = dlopen((place / kModule).c_str(), kMode);
    }
    return found ? found : dlopen(kModule, kMode);
  }();
  const auto make =
      module ? reinterpret_cast<decltype(&orrery_sentencepiece_model)>(dlsym(module, "orrery_sentencepiece_model"))
             : nullptr;
  if (!make)
    throw Error(ErrorKind::kUnsupported, {.place = kModule,
                                          .what = "cannot be loaded, and T5's texts are tokenized by it",
                                          .hint = "keep it beside liborrery.so, and install libsentencepiece"});
  return std::unique_ptr<SentencePieceModel>(make());
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::filesystem::path& path)
    : added_tokens_(AddedTokens::read(path.parent_path())), model_(new_model()) {
  std::ifstream file(path, std::ios::binary);
  std::string model((std::istreambuf_iterator<char>(file)), {});
  characters_ = CharacterMap::take(model, path.string());
  model_->load(model, [&](std::string_view problem, auto) {
    if (!problem.empty())
      throw Error(ErrorKind::kConfig, {.place = path.string(),
                                       .what = "is no SentencePiece model (" + std::string(problem) + ")",
                                       .hint = "is the download complete?"});
  });
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<int64_t> SentencePieceTokenizer::ids(const std::string& text, int64_t max_length) const {
  check_utf8(text);
  std::vector<int64_t> ids;
  added_tokens_.split(
      text,
      [&](std::string_view between) {
        model_->encode(characters_(between), [&](std::string_view problem, std::span<const int> pieces) {
          if (!problem.empty())
            throw Error(ErrorKind::kArgument,
                        {.place = "text", .what = "cannot be tokenized (" + std::string(problem) + ")"});
          ids.insert(ids.end(), pieces.begin(), pieces.end());
        });
      },
      [&](int64_t id) { ids.push_back(id); });
  // The end token always stays: the text in front of it is what gets cut.
  if (max_length > 0) ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(max_length) - 1));
  ids.push_back(model_->eos_id());
  return ids;
}

int64_t SentencePieceTokenizer::pad_id() const {
  return std::max(0, model_->pad_id());
}

}  // namespace orrery::text

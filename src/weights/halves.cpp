#include <map>
#include <set>
#include <string>
#include <utility>

#include "orrery/error.h"
#include "weights/sources.h"

namespace orrery::weights_detail {
namespace {

namespace fs = std::filesystem;

/// Two files as one checkpoint. A half whose tensors have bare names (TAESD) gets "encoder." or "decoder." before them; one
/// that was cut out of a whole checkpoint keeps its names.
class HalvesSource : public TensorSource {
 public:
  HalvesSource(const fs::path& folder, std::shared_ptr<const TensorSource> encoder,
               std::shared_ptr<const TensorSource> decoder)
      : place_(folder.string()) {
    add("encoder.", std::move(encoder));
    add("decoder.", std::move(decoder));
  }

  std::string place() const override { return place_; }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor read(const std::string& name) const override {
    const auto& [half, stored] = origins_.at(name);
    return half->read(stored);
  }

 private:
  void add(const std::string& prefix, const std::shared_ptr<const TensorSource>& half) {
    const auto& infos = half->infos();
    const auto first = infos.lower_bound(prefix);
    const bool whole_names = first != infos.end() && first->first.starts_with(prefix);
    for (const auto& [stored, info] : infos) {
      const std::string name = whole_names ? stored : prefix + stored;
      if (infos_.emplace(name, info).second) origins_[name] = {half, stored};
    }
  }

  std::string place_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, std::pair<std::shared_ptr<const TensorSource>, std::string>> origins_;
};

}  // namespace

std::shared_ptr<const TensorSource> open_halves(const fs::path& folder) {
  static const std::set<std::string> kEndings = {".safetensors", ".pth", ".pt", ".jit"};
  std::map<std::string, std::pair<fs::path, fs::path>> halves;  // by the name that both share: "taef2_" of taef2_encoder.pth
  for (const auto& item : fs::directory_iterator(folder)) {
    const auto stem = item.path().stem().string();
    if (!kEndings.contains(item.path().extension().string()) || !item.is_regular_file()) continue;
    if (stem.ends_with("encoder"))
      halves[stem.substr(0, stem.size() - 7) + item.path().extension().string()].first = item.path();
    if (stem.ends_with("decoder"))
      halves[stem.substr(0, stem.size() - 7) + item.path().extension().string()].second = item.path();
  }
  std::erase_if(halves, [](const auto& pair) { return pair.second.first.empty() || pair.second.second.empty(); });
  if (halves.empty()) return nullptr;
  if (halves.size() > 1)
    throw Error(ErrorKind::kWeights, {.place = folder.string(),
                                      .what = "holds the halves of several tokenizers",
                                      .expected = "one encoder and one decoder of the same name",
                                      .got = std::to_string(halves.size()) + " pairs",
                                      .hint = "put the two files that belong together into a folder of their own"});
  const auto& [encoder, decoder] = halves.begin()->second;
  return std::make_shared<HalvesSource>(folder, open_file(encoder), open_file(decoder));
}

}  // namespace orrery::weights_detail

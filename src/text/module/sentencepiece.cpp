// liborrery_sentencepiece.so: see text/sentencepiece_module.h.
#include <sentencepiece_processor.h>

#include <vector>

#include "text/sentencepiece_module.h"

namespace orrery::text {
namespace {

class Model final : public SentencePieceModel {
 public:
  void load(std::string_view model, const Told& told) override {
    const auto status = processor_.LoadFromSerializedProto(model);
    told(status.ok() ? "" : status.message(), {});
  }
  void encode(std::string_view text, const Told& told) const override {
    std::vector<int> pieces;
    const auto status = processor_.Encode(text, &pieces);
    told(status.ok() ? "" : status.message(), pieces);
  }
  int eos_id() const override { return processor_.eos_id(); }
  int pad_id() const override { return processor_.pad_id(); }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace
}  // namespace orrery::text

extern "C" __attribute__((visibility("default"))) orrery::text::SentencePieceModel* orrery_sentencepiece_model() {
  return new orrery::text::Model;
}

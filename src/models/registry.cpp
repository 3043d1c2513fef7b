#include "models/registry.h"

#include "models/cosmos/tokenizer.h"
#include "models/cosmos_ar/transformer.h"
#include "models/tiny/taehv.h"
#include "models/tiny/taesd.h"
#include "orrery/error.h"

namespace orrery::models {

// One line a class. A family's name appears in its own folder and here, nowhere else.
const std::vector<Entry>& entries() {
  static const std::vector<Entry> table = {
      {"AutoencoderKLCosmos", "vae", build_cosmos_autoencoder},
      {"CausalContinuousVideoTokenizer", "vae", build_cosmos_autoencoder},
      {"CausalDiscreteVideoTokenizer", "vae", build_cosmos_autoencoder},
      {"ContinuousImageTokenizer", "vae", build_cosmos_autoencoder},
      {"DiscreteImageTokenizer", "vae", build_cosmos_autoencoder},
      {"AutoencoderTiny", "vae", build_autoencoder_tiny},
      {"TAEHV", "vae", build_taehv},
      {"TAESD", "vae", build_taesd},
      {"Transformer", "dynamics", build_cosmos_ar},
  };
  return table;
}

// The first that recognises a checkpoint wins, so the most specific stand first.
const std::vector<Describer>& describers() {
  static const std::vector<Describer> table = {describe_cosmos_tokenizer, describe_taehv, describe_taesd, describe_cosmos_ar};
  return table;
}

const Entry& entry_of(const std::string& class_name, const std::string& place) {
  std::string known;
  for (const Entry& entry : entries()) {
    if (entry.class_name == class_name) return entry;
    known += (known.empty() ? "" : ", ") + std::string(entry.class_name);
  }
  throw Error(ErrorKind::kUnsupported, {.place = place,
                                        .what = "the class '" + class_name + "' is not known",
                                        .expected = "one of " + known});
}

}  // namespace orrery::models

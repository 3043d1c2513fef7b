#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "orrery/autoencoder.h"
#include "orrery/export.h"
#include "orrery/latents.h"
#include "orrery/lora.h"
#include "orrery/progress.h"
#include "orrery/video.h"

namespace orrery {

/// In which form the matrices of linear layers lie in memory while a model runs.
enum class WeightForm {
  kStored,    ///< as in the file
  kFloat32,   ///< widened when they are loaded
  kBFloat16,  ///< rounded to bfloat16 when they are loaded, widened where they are used
  kInt8,      ///< symmetric 8-bit integers and one scale for each output, made when they are loaded
  kFloat8,    ///< float8 (e4m3) and one scale for each output, made when they are loaded, widened where they are used
};

/// How a network's tokens look at each other.
enum class AttentionForm {
  kExact,
  kInt8,  ///< queries and keys rounded to 8 bits for their products, after the mean of the keys is taken off. Lossy.
};

/// Where and how a model runs.
struct LoadOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;         ///< of the arithmetic; weights keep their stored dtype until a layer asks
  WorkOptions work;                          ///< progress of a download
  std::vector<LoraFile> loras;               ///< merged into the denoising networks as they are loaded, one after another
  WeightForm weights = WeightForm::kStored;  ///< networks that have no other form in memory refuse any but kStored
  AttentionForm attention = AttentionForm::kExact;  ///< of diffusion transformers' self-attention; others refuse kInt8

  /// The same for the tokenizers and encoders beside a network that steps, whose forms those of weights and attention are.
  LoadOptions as_stored() const {
    LoadOptions options = *this;
    options.weights = WeightForm::kStored;
    options.attention = AttentionForm::kExact;
    return options;
  }
};

/// What to do with a clip whose frame count or size the tokenizer cannot take. Nothing of this happens unasked.
enum class FitMode { kError, kPad, kTrim };

/// How a clip is coded.
struct CodeOptions {
  FitMode fit = FitMode::kError;  ///< kPad repeats the last frame and the edge rows; kTrim cuts to the largest that fits
  int64_t chunk = 0;              ///< frames (latents) at a time; 0: the network's own choice. Never changes the result.
  bool raw = false;               ///< latents as the network gives and takes them, without the normalisation
  int64_t tile = 0;               ///< side in pixels of spatial tiles that are coded alone and blended; 0: no tiles (exact)
  int64_t tile_overlap = 0;       ///< pixels that neighbouring tiles share; 0: a quarter of `tile`
  WorkOptions work;
};

/// A video tokenizer, whatever its family: pixels to latents in dynamics space, and back. Const, shareable between threads.
class ORRERY_API Tokenizer {
 public:
  /// Loads from a pipeline or component folder, a checkpoint file, or a hub id `org/name[@revision][:subfolder]`.
  static Tokenizer from_pretrained(const std::string& path, const LoadOptions& options = {});
  explicit Tokenizer(std::shared_ptr<const Autoencoder> autoencoder);

  /// The frame arithmetic, the reference's class name, and the networks themselves.
  const CodecSpec& spec() const { return autoencoder_->spec(); }
  std::string class_name() const { return autoencoder_->class_name(); }
  const Autoencoder& autoencoder() const { return *autoencoder_; }

  /// uint8 frames → latents in dynamics space (normalised), or int64 tokens.
  Latents encode(const Video& video, const CodeOptions& options = {}) const;
  /// Latents in dynamics space → frames.
  Video decode(const Latents& latents, const CodeOptions& options = {}) const;
  /// As decode, handing on uint8 frames [T,H,W,3] as they are ready; memory does not grow with the clip.
  void decode(const Latents& latents, const std::function<void(const at::Tensor& frames)>& sink,
              const CodeOptions& options = {}) const;

 private:
  std::shared_ptr<const Autoencoder> autoencoder_;
};

/// The name under which Cosmos users look for it.
using CosmosTokenizer = Tokenizer;

}  // namespace orrery

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/component.h"
#include "orrery/export.h"

namespace orrery {

/// The arithmetic of a tokenizer: how frames and pixels become latents.
struct ORRERY_API CodecSpec {
  int64_t spatial_stride = 8;    ///< H = h · spatial_stride
  int64_t temporal_stride = 1;   ///< pixel frames a latent frame (after the first, where `causal`)
  int64_t latent_channels = 16;  ///< C of continuous latents; of a discrete tokenizer, the width of its codes
  int64_t vocabulary = 0;        ///< number of codes of a discrete tokenizer; 0: continuous
  bool causal = false;           ///< the first frame stands alone: T = 1 + temporal_stride · (t − 1)
  bool image = false;            ///< the reference network takes [B,3,H,W]; a video is coded frame by frame
  int64_t window_frames = 0;     ///< pixel frames that the original codes from a fresh start each; 0: any number
  bool pads_time = false;        ///< any T is allowed: the network itself repeats the last frame as its reference does

  /// Whether the latents are indices into a vocabulary.
  bool discrete() const { return vocabulary > 0; }
  /// Whether a clip of so many frames can be coded.
  bool takes_frames(int64_t frames) const;
  /// Latent frames of `frames` pixel frames. Throws Error(kArgument) naming the nearest counts that fit.
  int64_t latent_frames(int64_t frames) const;
  /// Pixel frames of `latent_frames` latent frames.
  int64_t pixel_frames(int64_t latent_frames) const;
  /// Which frame of an encoded clip the first decoded one is: a network that repeats the last frame drops as many at the start.
  int64_t first_decoded_frame() const { return pads_time && causal ? temporal_stride - 1 : 0; }
  /// Throws Error(kArgument) when a side is not a multiple of spatial_stride, naming the nearest sizes that fit.
  void check_size(int64_t height, int64_t width) const;
};

/// The per-channel affine map between the network's latents and the space in which dynamics works: (z − mean) / std · scale.
/// Both vectors are empty where there is none. Shape [C], or [C, frames] where the original keeps one value for each latent
/// frame of its window.
struct ORRERY_API LatentNormalization {
  at::Tensor mean;
  at::Tensor std;
  double scale = 1;

  /// Raw latents float [B,C,t,h,w] → dynamics space. `first_frame` says which latent frame of the clip the first one is; it
  /// counts only where the values differ by frame. Throws Error(kArgument) when there are none for so late a frame.
  at::Tensor apply(const at::Tensor& latent, int64_t first_frame = 0) const;
  /// Dynamics space → raw latents; the inverse of apply().
  at::Tensor undo(const at::Tensor& latent, int64_t first_frame = 0) const;
};

/// What a causal network remembers between two chunks of one clip: the tails that its layers read, by slot. Copying it forks
/// the stream (tensors are shared and never written in place).
struct CodecCache {
  std::vector<at::Tensor> slots;  ///< one for each layer that looks back; undefined before its first chunk
  int64_t position = 0;           ///< units (frames or latents) that the network has consumed
  at::Tensor pending;             ///< input that waits for the rest of its group
};

/// Latents of one encode: exactly one is defined for continuous tokenizers, both for discrete ones.
struct Encoded {
  at::Tensor latent;   ///< float [B,C,t,h,w], not normalised: the mode of the posterior, or the quantised codes
  at::Tensor indices;  ///< int32 [B,t,h,w], discrete tokenizers only
};

/// What a tokenizer family writes: the two networks, raw (no latent normalisation), chunk by chunk.
/// All tensors are 5-D, image tokenizers included (they see each frame alone).
class ORRERY_API Autoencoder : public Component {
 public:
  virtual const CodecSpec& spec() const = 0;
  virtual const LatentNormalization& normalization() const = 0;
  virtual bool has_encoder() const { return true; }
  virtual bool has_decoder() const { return true; }

  /// Feeds pixels float [B,3,T,H,W] in [-1,1], any T ≥ 0; returns the latents that are complete (t may be 0). `last` says that
  /// no more will come: networks that repeat the last frame then do so, others throw Error(kArgument) if frames are left over.
  virtual Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const = 0;
  /// Feeds latents float [B,C,t,h,w] (raw), any t ≥ 0; returns the pixels that are complete, float [B,3,T,H,W].
  virtual at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const = 0;
  /// The codes of indices int [B,t,h,w] as float [B,C,t,h,w]. Throws Error(kUnsupported) for a continuous tokenizer.
  virtual at::Tensor codes_of(const at::Tensor& indices) const;

  /// How many frames (latents) a chunk should have when a whole clip is coded, so that memory does not grow with the clip.
  virtual int64_t preferred_encode_chunk() const { return 0; }  ///< 0: all at once
  virtual int64_t preferred_decode_chunk() const { return 0; }

  /// A whole clip, chunk by chunk. Checks the size and frame count first.
  Encoded encode(const at::Tensor& sample, int64_t chunk = 0) const;
  at::Tensor decode(const at::Tensor& latent, int64_t chunk = 0) const;

  /// "encode" and "decode" with the names of the contract: sample, latent, indices.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const final;
};

}  // namespace orrery

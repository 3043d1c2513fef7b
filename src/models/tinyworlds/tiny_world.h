#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/tinyworlds/st_transformer.h"
#include "orrery/autoencoder.h"
#include "orrery/work_bytes.h"
#include "orrery/world.h"

namespace orrery::models {

/// A convolution of one pixel: a linear layer over the last dimension.
struct TinyPointwise {
  TinyPointwise(const Weights& weights, int64_t in, int64_t out);
  at::Tensor operator()(const at::Tensor& x) const;
  at::Tensor weight, bias;
};

/// Patches of frames as embeddings with their places.
class TinyPatchEmbedding {
 public:
  TinyPatchEmbedding(const Weights& weights, const TinyWorldConfig& config);
  at::Tensor operator()(const at::Tensor& frames) const;  ///< [B,3,T,H,W] → [B,T,P,E]

 private:
  int64_t patch_;
  TinyPointwise proj_;
  at::Tensor positions_;
};

/// A norm, then a linear layer.
class TinyHead {
 public:
  TinyHead(const Weights& weights, const char* norm, const char* linear, int64_t in, int64_t out);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor weight_, bias_;
  layers::Linear linear_;
};

/// Numbers in [-1,1] as one of `bins` evenly spaced values each, and such rows as one index, the first number's digit the
/// lowest.
struct TinyQuantizer {
  int64_t dim, bins;
  int64_t vocabulary() const;                    ///< of the rows
  at::Tensor digits(const at::Tensor& z) const;  ///< of raw numbers [...,L], int64
  at::Tensor values(const at::Tensor& digits) const;
  at::Tensor index(const at::Tensor& digits) const;  ///< [...,L] → [...]
  at::Tensor digits_of(const at::Tensor& index) const;
};

/// The video tokenizer of a tiny world: causal in time, so a clip's frames may come in any portions.
/// Source: AlmondGod/tinyworlds:models/video_tokenizer.py@a99f3a8.
class TinyVideoTokenizer final : public Autoencoder, public TellsWorkBytes {
 public:
  TinyVideoTokenizer(const Config& config, const Weights& weights);

  std::string class_name() const override { return "VideoTokenizer"; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  at::Tensor codes_of(const at::Tensor& indices) const override;
  int64_t work_bytes(at::IntArrayRef latents) const override;
  int64_t frame_size() const { return config_.frame_size; }

 private:
  TinyWorldConfig config_;
  TinyQuantizer quantizer_;
  CodecSpec spec_;
  LatentNormalization normalization_;
  TinyPatchEmbedding patch_embed_;
  TinyTransformer encoder_, decoder_;
  TinyHead latent_head_;
  layers::Linear latent_embed_;
  TinyPointwise to_pixels_;
  at::Tensor positions_;
};

/// What happened between two frames, as a row of signs. Source: AlmondGod/tinyworlds:models/latent_actions.py@a99f3a8.
class TinyLatentActions final : public Component {
 public:
  TinyLatentActions(const Config& config, const Weights& weights);
  std::string class_name() const override { return "LatentActionModel"; }
  int64_t action_dim() const { return quantizer_.dim; }
  at::Tensor encode(const at::Tensor& frames) const;  ///< [B,3,T,H,W] → signs float [B,T − 1,A]
  at::Tensor of(const at::Tensor& index) const { return quantizer_.values(quantizer_.digits_of(index)); }
  /// "encode": sample → actions.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  TinyQuantizer quantizer_;
  TinyPatchEmbedding patch_embed_;
  TinyTransformer transformer_;
  TinyHead head_;
  layers::Linear out_;
};

/// Fills in masked codes of the next frame. Source: AlmondGod/tinyworlds:models/dynamics.py@a99f3a8.
class TinyDynamics final : public Component, public TellsWorkBytes {
 public:
  TinyDynamics(const Config& config, const Weights& weights);
  std::string class_name() const override { return "DynamicsModel"; }
  int64_t work_bytes(at::IntArrayRef tokens) const override;
  at::Tensor logits(const at::Tensor& codes, const at::Tensor& actions) const;  ///< [B,T,P,L], [B,T or T − 1,A] → [B,T,P,K]
  /// Codes [1,T + 1,P,L]: those given and the next frame's, in `looks` looks; temperature 0 takes the most likely. The draws
  /// depend on (seed, frame) alone.
  at::Tensor imagine(const at::Tensor& codes, const at::Tensor& actions, int64_t looks, double temperature, uint64_t seed,
                     int64_t frame) const;
  /// "logits": input_ids [B,T·P], actions [B,T or T − 1,A] (may be absent) → logits [B,T·P,K].
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  TinyWorldConfig config_;
  TinyQuantizer quantizer_;
  layers::Linear latent_embed_, output_mlp_;
  TinyTransformer transformer_;
  at::Tensor mask_token_, positions_;
};

std::optional<Config> describe_tiny_world(const Weights& weights);  ///< any of the three
std::unique_ptr<Component> build_tiny_video_tokenizer(const Config& config, const Weights& weights);
std::unique_ptr<Component> build_tiny_latent_actions(const Config& config, const Weights& weights);
std::unique_ptr<Component> build_tiny_dynamics(const Config& config, const Weights& weights);
/// All three as a world whose actions are the latent ones, by index.
std::unique_ptr<World> build_tiny_world(const ModelDescription& model, const LoadOptions& options);
ActionSpace tiny_world_actions(const ModelDescription& model);
std::vector<int64_t> tiny_world_clip(const ModelDescription& model);

}  // namespace orrery::models

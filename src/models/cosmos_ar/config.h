#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "orrery/config.h"
#include "orrery/tokenizer.h"
#include "orrery/weights.h"

namespace orrery::models {

/// The hyper-parameters of Predict1's autoregressive transformer. Names and defaults are those of the reference's
/// ModelConfig. Source: nvidia-cosmos/cosmos-predict1:cosmos_predict1/autoregressive/configs/base/model.py@4ed35fa.
struct CosmosArConfig {
  int64_t dim = 4096, n_layers = 32, n_heads = 32, n_kv_heads = 32, head_dim = 128;
  int64_t vocab_size = 128256, ffn_hidden_size = 14336;
  std::string norm_type = "rmsnorm";
  double norm_eps = 1e-5;
  bool use_qk_normalization = false;

  int64_t max_seq_len = 8192;
  std::string rope_dim = "1D";              ///< "1D", or "3D": angles over the grid of video_latent_shape
  std::string pytorch_rope_version = "v2";  ///< "v1" turns neighbouring channels, "v2" the halves of a head
  double rope_theta = 500000;
  std::vector<int64_t> video_latent_shape;  ///< t, h, w
  int64_t pad_to_multiple_of = 1;           ///< the position tables are padded to such a length
  bool apply_abs_pos_emb = false;

  bool apply_yarn = false;
  double yarn_scale = 1, yarn_beta_fast = 32, yarn_beta_slow = 1;
  int64_t original_seq_len = 8192;
  std::vector<int64_t> original_latent_shape;

  bool insert_cross_attn = false;
  int64_t insert_cross_attn_every_k_layers = 1;
  int64_t context_dim = 1024;
  WeightForm weight_form = WeightForm::kStored;  ///< of the matrices in memory
  bool text_to_video = false;  ///< training_type: token vocab_size begins a video and has no place in the grid

  static CosmosArConfig from(const Config& config);
  bool has_cross_attention(int64_t layer) const {
    return insert_cross_attn && layer % insert_cross_attn_every_k_layers == 0;
  }
};

/// Recognises a released checkpoint (4B, 5B, 12B, 13B) and states its configuration: sizes from the shapes, the rest from
/// the table of presets.
std::optional<Config> describe_cosmos_ar(const Weights& weights);

}  // namespace orrery::models

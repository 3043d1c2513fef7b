#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "orrery/component.h"
#include "orrery/config.h"
#include "orrery/world.h"

namespace orrery::models {

/// A recurrent state-space model of measured states: a deterministic memory h, and a latent z that is told by an observation
/// (posterior) or guessed from the memory (prior). Means are used, nothing is drawn.
/// Source: nsmoly/LunarLander_RSSM models.py (WorldModel, RSSM) at 82d53a0; arXiv 2607.01736.
class RssmWorldModel final : public Component {
 public:
  RssmWorldModel(const Config& config, const Weights& weights);
  std::string class_name() const override { return "WorldModel"; }

  /// Memory [B,H] and latent [B,Z].
  struct Belief {
    at::Tensor h, z;
  };
  /// What a decoded belief says.
  struct Told {
    at::Tensor observation;  ///< [B,O]: physical values, then contacts in 0…1
    at::Tensor reward;       ///< [B]
    at::Tensor done;         ///< [B], probability that the episode is over
  };

  /// Before anything was seen.
  Belief nothing(int64_t batch) const;
  /// After `action` [B,A] one-hot (zeros: none) and the `observation` [B,O] that followed; undefined: imagined.
  Belief advance(const Belief& belief, const at::Tensor& action, const at::Tensor& observation) const;
  Told decode(const Belief& belief) const;

  int64_t observation_size() const { return obs_dim_; }
  int64_t actions() const { return action_dim_; }
  int64_t hidden_size() const { return hidden_dim_; }
  int64_t latent_size() const { return latent_dim_; }

  /// "forward": obs [B,T,O] and actions int64 [B,T−1+K] → observation [B,K,O], reward and done [B,K]: T observations are
  /// seen, then K actions imagined.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  // Linear, LayerNorm, SiLU, twice; then, for most, a last Linear. Names are those of the reference's nn.Sequential.
  struct Mlp {
    layers::Linear first, second, last;
    at::Tensor norm1_weight, norm1_bias, norm2_weight, norm2_bias;
    at::Tensor operator()(const at::Tensor& x) const;
  };
  Mlp read_mlp(const Weights& weights, int64_t in, int64_t out) const;  // out 0: no last Linear

  int64_t obs_dim_, action_dim_, latent_dim_, hidden_dim_, mlp_hidden_dim_;
  Mlp obs_encoder, prior_net, post_net, decoder_backbone, reward_head;
  at::Tensor gru_weight_ih, gru_weight_hh, gru_bias_ih, gru_bias_hh;
  layers::Linear physics_head, contact_head, done_head;
};

std::unique_ptr<Component> build_rssm_world_model(const Config& config, const Weights& weights);
/// Recognises the checkpoint by its tensors and reads the sizes off them.
std::optional<Config> describe_rssm_world_model(const Weights& weights);

/// A folder with such a model and its action_space.json ("RssmWorldPipeline"). It is begun with measured states and draws
/// what it imagines.
std::unique_ptr<World> build_rssm_world(const ModelDescription& model, const LoadOptions& options);
/// Its action_space.json.
ActionSpace rssm_world_actions(const ModelDescription& model);

}  // namespace orrery::models

#include "models/cosmos/cosmos_action_embedding.h"

#include <ATen/ATen.h>

#include <sstream>

#include "orrery/error.h"

namespace orrery::models {

CosmosActionEmbedding::CosmosActionEmbedding(const Weights& weights, int64_t features, int64_t width,
                                             int64_t per_latent_frame)
    : features_(features), per_latent_frame_(per_latent_frame) {
  const auto read = [&](const char* name, int64_t out) {
    const Weights mlp = weights.sub(name);
    // As wide as the file says: four times the network, but for checkpoints trained with a width of their own.
    const auto shape = mlp.shape("fc1.weight");
    const int64_t hidden = shape && shape->size() == 2 ? (*shape)[0] : 4 * width;
    return Mlp{layers::Linear(mlp.sub("fc1"), features, hidden, /*bias=*/true),
               layers::Linear(mlp.sub("fc2"), hidden, out, /*bias=*/true)};
  };
  embedder_B_D = read("action_embedder_B_D", width);
  embedder_B_3D = read("action_embedder_B_3D", 3 * width);
}

at::Tensor CosmosActionEmbedding::Mlp::operator()(const at::Tensor& x) const {
  return fc2(at::gelu(fc1(x), "tanh"));
}

CosmosTimeEmbedding CosmosActionEmbedding::of_frame(const at::Tensor& actions) const {
  const at::Tensor row = actions.reshape({actions.size(0), 1, features_});
  return {embedder_B_3D(row), embedder_B_D(row)};
}

CosmosTimeEmbedding CosmosActionEmbedding::operator()(const at::Tensor& actions, int64_t latent_frames,
                                                      const at::Tensor& condition_mask) const {
  const int64_t chunks = per_latent_frame_ > 0 ? latent_frames - 1 : 1;
  if (actions.dim() != 3 || actions.size(1) * actions.size(2) != chunks * features_ ||
      (per_latent_frame_ > 0 && actions.size(1) != chunks * per_latent_frame_)) {
    std::ostringstream got;
    got << actions.sizes();
    throw Error(ErrorKind::kArgument,
                {.place = "actions",
                 .what = "do not fit the network and the number of frames",
                 .expected = per_latent_frame_ > 0 ? "[B," + std::to_string(chunks * per_latent_frame_) + "," +
                                                         std::to_string(features_ / per_latent_frame_) + "]"
                                                   : "[B,T,A] with T·A = " + std::to_string(features_),
                 .got = got.str()});
  }
  const at::Tensor rows = actions.reshape({actions.size(0), chunks, features_});
  CosmosTimeEmbedding added{embedder_B_3D(rows), embedder_B_D(rows)};
  if (per_latent_frame_ == 0) return added;
  // The first latent frame has no action before it; frames that are given are not steered.
  at::Tensor steered = at::ones({1, latent_frames, 1}, added.temb.options());
  steered.select(1, 0).fill_(0);
  if (condition_mask.defined())
    steered = steered * (1 - condition_mask.select(1, 0).select(-1, 0).select(-1, 0)).unsqueeze(-1);
  const auto by_frame = [&](const at::Tensor& values) { return at::constant_pad_nd(values, {0, 0, 1, 0}) * steered; };
  return {by_frame(added.temb), by_frame(added.embedded_timestep)};
}

}  // namespace orrery::models

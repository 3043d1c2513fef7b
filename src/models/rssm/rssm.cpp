#include "models/rssm/rssm.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "layers/norm.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kNormEps = 1e-5;  // torch.nn.LayerNorm's default
constexpr int64_t kPhysics = 6;    // x, y, their speeds, angle, its speed
constexpr int64_t kContacts = 2;   // of the two legs

int64_t side(const Weights& weights, const char* name, size_t axis) {
  const auto shape = weights.shape(name);
  return shape && axis < shape->size() ? (*shape)[axis] : 0;
}

}  // namespace

RssmWorldModel::RssmWorldModel(const Config& config, const Weights& weights)
    : obs_dim_(config.get<int64_t>("obs_dim", kPhysics + kContacts)),
      action_dim_(config.get<int64_t>("action_dim", 4)),
      latent_dim_(config.get<int64_t>("latent_dim", 16)),
      hidden_dim_(config.get<int64_t>("hidden_dim", 256)),
      mlp_hidden_dim_(config.get<int64_t>("mlp_hidden_dim", hidden_dim_)) {
  if (obs_dim_ != kPhysics + kContacts || config.get<int64_t>("gru_num_layers", 1) != 1)
    throw Error(ErrorKind::kUnsupported, {.place = config.place(),
                                          .what = "asks for a form that no release has",
                                          .expected = "8 observed numbers and one recurrent layer"});
  const Weights rssm = weights.sub("rssm");
  obs_encoder = read_mlp(rssm.sub("obs_encoder"), obs_dim_, 0);
  prior_net = read_mlp(rssm.sub("prior_net"), hidden_dim_, 2 * latent_dim_);
  post_net = read_mlp(rssm.sub("post_net"), hidden_dim_ + mlp_hidden_dim_, 2 * latent_dim_);
  decoder_backbone = read_mlp(weights.sub("decoder_backbone"), latent_dim_ + hidden_dim_, 0);
  reward_head = read_mlp(weights.sub("reward_head"), latent_dim_ + hidden_dim_, 1);
  gru_weight_ih = rssm.get("gru.weight_ih", {3 * hidden_dim_, latent_dim_ + action_dim_});
  gru_weight_hh = rssm.get("gru.weight_hh", {3 * hidden_dim_, hidden_dim_});
  gru_bias_ih = rssm.get("gru.bias_ih", {3 * hidden_dim_});
  gru_bias_hh = rssm.get("gru.bias_hh", {3 * hidden_dim_});
  physics_head = layers::Linear(weights.sub("physics_head"), mlp_hidden_dim_, kPhysics, /*bias=*/true);
  contact_head = layers::Linear(weights.sub("contact_head"), mlp_hidden_dim_, kContacts, /*bias=*/true);
  done_head = layers::Linear(weights.sub("done_head"), mlp_hidden_dim_, 1, /*bias=*/true);
}

RssmWorldModel::Mlp RssmWorldModel::read_mlp(const Weights& weights, int64_t in, int64_t out) const {
  Mlp mlp;
  mlp.first = layers::Linear(weights.sub("0"), in, mlp_hidden_dim_, /*bias=*/true);
  mlp.norm1_weight = weights.get("1.weight", {mlp_hidden_dim_});
  mlp.norm1_bias = weights.get("1.bias", {mlp_hidden_dim_});
  mlp.second = layers::Linear(weights.sub("3"), mlp_hidden_dim_, mlp_hidden_dim_, /*bias=*/true);
  mlp.norm2_weight = weights.get("4.weight", {mlp_hidden_dim_});
  mlp.norm2_bias = weights.get("4.bias", {mlp_hidden_dim_});
  if (out > 0) mlp.last = layers::Linear(weights.sub("6"), mlp_hidden_dim_, out, /*bias=*/true);
  return mlp;
}

at::Tensor RssmWorldModel::Mlp::operator()(const at::Tensor& x) const {
  at::Tensor y = at::silu(layers::layer_norm(first(x), kNormEps, norm1_weight, norm1_bias));
  y = at::silu(layers::layer_norm(second(y), kNormEps, norm2_weight, norm2_bias));
  return last.defined() ? last(y) : y;
}

RssmWorldModel::Belief RssmWorldModel::nothing(int64_t batch) const {
  return {at::zeros({batch, hidden_dim_}, gru_weight_ih.options()),
          at::zeros({batch, latent_dim_}, gru_weight_ih.options())};
}

RssmWorldModel::Belief RssmWorldModel::advance(const Belief& belief, const at::Tensor& action,
                                               const at::Tensor& observation) const {
  Belief next;
  next.h = at::gru_cell(at::cat({belief.z, action}, -1), belief.h, gru_weight_ih, gru_weight_hh, gru_bias_ih, gru_bias_hh);
  const at::Tensor told =
      observation.defined() ? post_net(at::cat({next.h, obs_encoder(observation)}, -1)) : prior_net(next.h);
  next.z = told.narrow(-1, 0, latent_dim_);  // mean; the logarithm of the deviation follows
  return next;
}

RssmWorldModel::Told RssmWorldModel::decode(const Belief& belief) const {
  const at::Tensor both = at::cat({belief.h, belief.z}, -1), features = decoder_backbone(both);
  return {at::cat({physics_head(features), at::sigmoid(contact_head(features))}, -1), reward_head(both).squeeze(-1),
          at::sigmoid(done_head(features)).squeeze(-1)};
}

TensorMap RssmWorldModel::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const at::Tensor obs = require_input(inputs, "obs", "dynamics.forward").to(at::kFloat);
  const at::Tensor actions = require_input(inputs, "actions", "dynamics.forward").to(at::kLong);
  if (obs.dim() != 3 || obs.size(1) < 1 || obs.size(2) != obs_dim_ || actions.dim() != 2 || actions.size(0) != obs.size(0) ||
      actions.size(1) < obs.size(1) || actions.min().item<int64_t>() < 0 || actions.max().item<int64_t>() >= action_dim_)
    throw Error(ErrorKind::kArgument, {.place = "dynamics.forward",
                                       .what = "obs and actions do not fit",
                                       .expected = "obs [B,T," + std::to_string(obs_dim_) +
                                                   "] and actions [B,T-1+K] of 0 … " + std::to_string(action_dim_ - 1)});
  const at::Tensor rows = at::one_hot(actions, action_dim_).to(at::kFloat);
  Belief belief = advance(nothing(obs.size(0)), at::zeros({obs.size(0), action_dim_}, obs.options()), obs.select(1, 0));
  std::vector<at::Tensor> observations, rewards, done;
  for (int64_t t = 0; t < actions.size(1); ++t) {
    const bool seen = t + 1 < obs.size(1);
    belief = advance(belief, rows.select(1, t), seen ? obs.select(1, t + 1) : at::Tensor());
    if (seen) continue;
    const Told told = decode(belief);
    observations.push_back(told.observation);
    rewards.push_back(told.reward);
    done.push_back(told.done);
  }
  return {{"observation", at::stack(observations, 1)}, {"reward", at::stack(rewards, 1)}, {"done", at::stack(done, 1)}};
}

std::unique_ptr<Component> build_rssm_world_model(const Config& config, const Weights& weights) {
  return std::make_unique<RssmWorldModel>(config, weights);
}

std::optional<Config> describe_rssm_world_model(const Weights& weights) {
  const int64_t hidden = side(weights, "rssm.gru.weight_hh", 1), mlp = side(weights, "rssm.prior_net.0.weight", 0);
  const int64_t latent = side(weights, "rssm.prior_net.6.weight", 0) / 2, input = side(weights, "rssm.gru.weight_ih", 1);
  if (hidden == 0 || mlp == 0 || latent == 0 || input <= latent || !weights.has("physics_head.weight")) return {};
  return Config()
      .with("_class_name", std::string("WorldModel"))
      .with("obs_dim", side(weights, "rssm.obs_encoder.0.weight", 1))
      .with("action_dim", input - latent)
      .with("latent_dim", latent)
      .with("hidden_dim", hidden)
      .with("mlp_hidden_dim", mlp);
}

}  // namespace orrery::models

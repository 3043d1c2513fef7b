#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "models/rssm/rssm.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr int64_t kHeight = 160, kWidth = 240;

// The scene that the numbers describe: x from −1 to 1 across, y from 0 (the pad) up; a lander of a body and two legs, which
// light up when they touch. float [1,3,H,W] in [-1,1].
at::Tensor drawn(const at::Tensor& observation) {
  const auto o = observation.flatten().to(at::kCPU, at::kFloat).contiguous();
  const float* value = o.data_ptr<float>();
  const double x0 = value[0], y0 = value[1], angle = value[4];
  at::Tensor picture = at::empty({1, 3, kHeight, kWidth}, at::kFloat);
  auto pixel = picture.accessor<float, 4>();
  const auto paint = [&](int64_t row, int64_t column, float red, float green, float blue) {
    pixel[0][0][row][column] = red;
    pixel[0][1][row][column] = green;
    pixel[0][2][row][column] = blue;
  };
  for (int64_t row = 0; row < kHeight; ++row)
    for (int64_t column = 0; column < kWidth; ++column) {
      const double x = 2.4 * (static_cast<double>(column) + 0.5) / kWidth - 1.2;
      const double y = 1.75 - 1.9 * (static_cast<double>(row) + 0.5) / kHeight;
      if (y < -0.05) {
        const bool pad = std::abs(x) < 0.2;
        paint(row, column, pad ? 0.9F : 0.3F, pad ? 0.8F : 0.3F, pad ? -0.4F : 0.35F);
        continue;
      }
      // In the lander's own axes, in units of its size.
      const double u = ((x - x0) * std::cos(angle) + (y - y0) * std::sin(angle)) / 0.1;
      const double v = (-(x - x0) * std::sin(angle) + (y - y0) * std::cos(angle)) / 0.1;
      if (std::abs(u) < 0.7 - 0.25 * v && v > -0.1 && v < 1.0)
        paint(row, column, 0.1F, -0.1F, 0.8F);
      else if (v <= -0.1 && v > -0.6 && std::abs(std::abs(u) - 0.7 - 0.4 * (-v)) < 0.13) {
        const bool touches = value[u < 0 ? 6 : 7] > 0.5F;
        paint(row, column, touches ? 1.0F : 0.2F, touches ? 0.6F : 0.2F, touches ? -0.8F : 0.9F);
      } else
        paint(row, column, -0.95F, -0.95F, -0.9F);
    }
  return picture;
}

class RssmWorld final : public World {
 public:
  RssmWorld(const ModelDescription& model, const LoadOptions& options) : actions_(rssm_world_actions(model)) {
    for (const ComponentDescription& part : model.components) {
      if (part.name != "dynamics") continue;
      auto loaded = load_component(part, options);
      if (const auto* network = dynamic_cast<const RssmWorldModel*>(loaded.get())) {
        loaded.release();
        network_.reset(network);
      }
    }
    if (!network_ || !actions_.discrete || actions_.high.at(0) + 1 != static_cast<double>(network_->actions()))
      throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                       .what = "lacks a recurrent model, or its actions are others than the model's"});
  }

  const ActionSpace& action_space() const override { return actions_; }
  int64_t height() const override { return kHeight; }
  int64_t width() const override { return kWidth; }

 private:
  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    if (observed.num_frames() > 0)
      throw Error(ErrorKind::kArgument,
                  {.place = "observation",
                   .what = "cannot be used: this world sees measured states, not pictures",
                   .expected = "conditions.known float [1," + std::to_string(network_->observation_size()) + ",T,1,1]",
                   .got = "a picture"});
    // A measured state is this world's latent frame: [1,S,T,1,1].
    const at::Tensor& known = prompt.conditions.known;
    const int64_t size = network_->observation_size();
    if (!known.defined() || known.dim() != 5 || known.size(2) < 1 ||
        known.sizes() != at::IntArrayRef({1, size, known.size(2), 1, 1}))
      throw Error(ErrorKind::kArgument, {.place = "conditions.known",
                                         .what = "is needed: this world sees measured states, not pictures",
                                         .expected = "float [1," + std::to_string(size) +
                                                     ",T,1,1], and conditions.actions [1,T-1,1] between them"});
    const at::Tensor seen = known.flatten(2).transpose(1, 2);  // [1,T,S]
    const at::Tensor& between = prompt.conditions.actions;
    if (seen.size(1) > 1 &&
        (!between.defined() || between.dim() != 3 || between.size(1) != seen.size(1) - 1 || between.size(2) != 1))
      throw Error(ErrorKind::kArgument,
                  {.place = "conditions.actions", .what = "do not lie between the states", .expected = "[1,T-1,1]"});
    const at::Tensor values = seen.to(at::kFloat);
    auto belief =
        network_->advance(network_->nothing(1), at::zeros({1, network_->actions()}, values.options()), values.select(1, 0));
    for (int64_t t = 1; t < values.size(1); ++t)
      belief = network_->advance(belief, one_hot(between[0][t - 1].item<double>()), values.select(1, t));
    State state;
    state.seed = seed;
    keep(belief, state);
    state.frame = values.size(1);
    return state;
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor&) const override {
    const auto belief = network_->advance({state.caches[0], state.caches[1]}, one_hot(action[0]), {});
    keep(belief, state);
    ++state.frame;
    return drawn(state.last);
  }

  void verify(const State& state) const override {
    const auto is = [](const at::Tensor& tensor, int64_t size) {
      return tensor.defined() && tensor.scalar_type() == at::kFloat && tensor.sizes() == at::IntArrayRef({1, size});
    };
    if (state.caches.size() != 2 || !is(state.caches[0], network_->hidden_size()) ||
        !is(state.caches[1], network_->latent_size()) || !is(state.last, network_->observation_size()) ||
        !state.context.empty() || state.frame < 1)
      throw Error(ErrorKind::kArgument, {.place = "state", .what = "holds tensors of other shapes than this world's"});
  }

  at::Tensor one_hot(double index) const {
    const ActionSpace& space = actions_;
    space.check({index});
    at::Tensor row = at::zeros({1, network_->actions()}, at::kFloat);
    row[0][static_cast<int64_t>(index)].fill_(1);
    return row.to(device());
  }

  // `last` is the observation that the belief stands for.
  void keep(const RssmWorldModel::Belief& belief, State& state) const {
    state.caches = {belief.h, belief.z};
    state.last = network_->decode(belief).observation;
  }

  ActionSpace actions_;
  std::unique_ptr<const RssmWorldModel> network_;
};

}  // namespace

ActionSpace rssm_world_actions(const ModelDescription& model) {
  return ActionSpace::read(Config::load(model.path / "action_space.json"));
}

std::unique_ptr<World> build_rssm_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<RssmWorld>(model, options);
}

}  // namespace orrery::models

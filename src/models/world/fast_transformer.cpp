#include "models/world/fast_transformer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace orrery::models {

using ops::Then;

FastTransformer::FastTransformer(const TransformerSizes& sizes, const Weights& weights) : sizes_(sizes) {
  const int64_t width = sizes.width, values = sizes.channels * sizes.patch * sizes.patch;
  const auto linear = [](const Weights& w, const char* name, int64_t in, int64_t out) {
    return ops::PackedProduct(w.sub(name).get("weight", {out, in}), w.sub(name).get("bias", {out}));
  };
  patch_in_ = linear(weights, "patch_in", 2 * values, width);
  patch_out_ = linear(weights, "patch_out", width, values);
  action_in_ = linear(weights, "action_in", sizes.action_features, width);
  action_out_ = linear(weights, "action_out", width, width);
  position_ = weights.get("position", {sizes.tokens, width}).to(at::kFloat).contiguous();
  std::vector<at::Tensor> weight, bias;  // of all modulations, as one product
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const Weights w = weights.sub("blocks", i);
    blocks_.push_back({linear(w, "space_qkv", width, 3 * width), linear(w, "space_out", width, width),
                       linear(w, "time_qkv", width, 3 * width), linear(w, "time_out", width, width),
                       linear(w, "mlp_in", width, sizes.mlp), linear(w, "mlp_out", sizes.mlp, width)});
    weight.push_back(w.sub("modulation").get("weight", {9 * width, width}));
    bias.push_back(w.sub("modulation").get("bias", {9 * width}));
  }
  weight.push_back(weights.sub("final_modulation").get("weight", {2 * width, width}));
  bias.push_back(weights.sub("final_modulation").get("bias", {2 * width}));
  modulation_ = ops::PackedProduct(at::cat(weight), at::cat(bias));
}

std::vector<float> FastTransformer::modulations(const at::Tensor& noise, std::span<const float> action_features) const {
  const int64_t passes = noise.size(0), width = sizes_.width;
  std::vector<float> inner(width), action(width),
      condition(noise.const_data_ptr<float>(), noise.const_data_ptr<float>() + passes * width);
  action_in_(action_features.data(), 1, inner.data());
  ops::silu(inner.data(), width);
  action_out_(inner.data(), 1, action.data());
  for (int64_t i = 0; i < passes * width; ++i) condition[i] += action[i % width];
  ops::silu(condition.data(), passes * width);
  std::vector<float> out(passes * modulation_.columns());
  modulation_(condition.data(), passes, out.data());
  return out;
}

// [C,ty,p,tx,p] → columns offset… of [S, 2·C·p·p]
void FastTransformer::to_tokens(const float* latent, int64_t offset, float* tokens) const {
  const int64_t p = sizes_.patch, side = sizes_.side, grid = side / p, values = sizes_.channels * p * p;
  for (int64_t c = 0; c < sizes_.channels; ++c)
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x)
        tokens[(y / p * grid + x / p) * 2 * values + offset + (c * p + y % p) * p + x % p] =
            latent[(c * side + y) * side + x];
}

// Turns the heads of S rows, each [heads,d], by the angles of this frame; angles in double, so that worlds may live long.
void FastTransformer::rotate(float* rows, int64_t frame) const {
  const int64_t dim = sizes_.width / sizes_.heads, half = dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double angle =
        static_cast<double>(frame) * std::pow(sizes_.rope_base, -static_cast<double>(i) / static_cast<double>(half));
    const auto cosine = static_cast<float>(std::cos(angle)), sine = static_cast<float>(std::sin(angle));
    for (int64_t row = 0; row < sizes_.tokens; ++row)
      for (int64_t head = 0; head < sizes_.heads; ++head) {
        float *a = rows + row * 3 * sizes_.width + head * dim + i, *b = a + half;
        const float turned = *a * cosine - *b * sine;
        *b = *b * cosine + *a * sine;
        *a = turned;
      }
  }
}

void FastTransformer::forward(const float* noisy, const float* previous, const float* modulation, int64_t frame,
                              std::span<const float* const> pages, float* page, float* clean) const {
  const int64_t tokens = sizes_.tokens, width = sizes_.width, heads = sizes_.heads, dim = width / heads;
  const int64_t values = sizes_.channels * sizes_.patch * sizes_.patch, layer_size = 2 * tokens * width;
  const float factor = 1 / std::sqrt(static_cast<float>(dim));
  const auto eps = static_cast<float>(sizes_.eps);
  const auto known = static_cast<int64_t>(pages.size());
  std::vector<float> buffer(tokens * (3 * width + 3 * width + std::max(sizes_.mlp, 2 * values)) +
                            std::max(tokens, known + 1) + 16);
  float *x = buffer.data(), *normal = x + tokens * width, *mixed = normal + tokens * width, *qkv = mixed + tokens * width;
  float *inner = qkv + tokens * 3 * width, *scores = inner + tokens * std::max(sizes_.mlp, 2 * values);
  std::vector<const float*> keys(std::max(tokens, known + 1)), seen(keys.size());

  to_tokens(noisy, 0, inner);
  to_tokens(previous, values, inner);
  std::memcpy(x, position_.const_data_ptr<float>(), tokens * width * sizeof(float));
  patch_in_(inner, tokens, x, Then::kAdd);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    const auto part = [&](int64_t which) {
      return modulation + (static_cast<int64_t>(i) * 9 + which) * width;
    };  // shift, scale, gate; three times

    ops::modulated_norm(x, part(0), part(1), tokens, width, eps, normal);
    block.space_qkv(normal, tokens, qkv);
    for (int64_t s = 0; s < tokens; ++s) {
      keys[s] = qkv + s * 3 * width + width;
      seen[s] = keys[s] + width;
    }
    for (int64_t s = 0; s < tokens; ++s)
      ops::attend(qkv + s * 3 * width, keys.data(), seen.data(), tokens, heads, dim, factor, scores, mixed + s * width);
    block.space_out(mixed, tokens, x, Then::kAddGated, part(2));

    ops::modulated_norm(x, part(3), part(4), tokens, width, eps, normal);
    block.time_qkv(normal, tokens, qkv);
    rotate(qkv, frame);
    rotate(qkv + width, frame);
    for (int64_t s = 0; s < tokens; ++s) {
      for (int64_t age = 0; age < known; ++age) {
        keys[age] = pages[age] + static_cast<int64_t>(i) * layer_size + s * width;
        seen[age] = keys[age] + tokens * width;
      }
      keys[known] = qkv + s * 3 * width + width;
      seen[known] = keys[known] + width;
      ops::attend(qkv + s * 3 * width, keys.data(), seen.data(), known + 1, heads, dim, factor, scores, mixed + s * width);
      if (page == nullptr) continue;
      float* kept = page + static_cast<int64_t>(i) * layer_size + s * width;
      std::memcpy(kept, keys[known], width * sizeof(float));
      std::memcpy(kept + tokens * width, seen[known], width * sizeof(float));
    }
    block.time_out(mixed, tokens, x, Then::kAddGated, part(5));

    ops::modulated_norm(x, part(6), part(7), tokens, width, eps, normal);
    block.mlp_in(normal, tokens, inner);
    ops::gelu_tanh(inner, tokens * sizes_.mlp);
    block.mlp_out(inner, tokens, x, Then::kAddGated, part(8));
  }
  if (clean == nullptr) return;
  const float* last = modulation + static_cast<int64_t>(blocks_.size()) * 9 * width;
  ops::modulated_norm(x, last, last + width, tokens, width, eps, normal);
  patch_out_(normal, tokens, inner);
  const int64_t p = sizes_.patch, side = sizes_.side, grid = side / p;
  for (int64_t c = 0; c < sizes_.channels; ++c)
    for (int64_t y = 0; y < side; ++y)
      for (int64_t column = 0; column < side; ++column) {
        const int64_t at = (c * side + y) * side + column;
        clean[at] = previous[at] + inner[(y / p * grid + column / p) * values + (c * p + y % p) * p + column % p];
      }
}

}  // namespace orrery::models

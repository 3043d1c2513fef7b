#include "models/world/fast_transformer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ops/workspace.h"

namespace orrery::models {

using ops::Then;

FastTransformer::FastTransformer(const TransformerSizes& sizes, const Weights& weights) : sizes_(sizes) {
  const int64_t width = sizes.width, p = sizes.patch, fine = sizes.conv_width, values = fine * p * p;
  const auto linear = [](const Weights& w, const char* name, int64_t in, int64_t out) {
    return ops::PackedProduct(w.sub(name).get("weight", {out, in}), w.sub(name).get("bias", {out}));
  };
  const auto conv_of = [&](const Weights& w, int64_t in, int64_t out) {
    return ops::SmallConvolution(w.get("weight", {out, in, 3, 3}), w.get("bias", {out}), sizes.side);
  };
  const auto conv = [&](const char* name, int64_t in, int64_t out) { return conv_of(weights.sub(name), in, out); };
  // Once a frame: what the action means to it.
  const auto single = [](const Weights& w, const char* name, int64_t in, int64_t out) {
    return ops::PackedProduct(w.sub(name).get("weight", {out, in}), w.sub(name).get("bias", {out}),
                              ops::PackedProduct::Form::kVectors);
  };
  plane_in_ = single(weights, "plane_in", sizes.action_features + 1, sizes.planes * sizes.side * sizes.side);
  conv_in_ = conv("conv_in", 3 * sizes.channels + sizes.planes, fine);
  conv_stem_ = conv("conv_stem", fine, fine);
  convs_head_.push_back(conv("conv_head", fine, fine));
  for (int64_t i = 0; i + 1 < sizes.head_convs; ++i)
    convs_head_.push_back(conv_of(weights.sub("convs_head", i), fine, fine));
  conv_out_ = conv("conv_out", fine, sizes.channels);
  if (sizes.flows > 0) {
    conv_flow_ = conv("conv_flow", fine, 2 * sizes.flows);
    conv_moved_ = conv("conv_moved", fine, fine);
  }
  // A token's values are numbered (channel, y, x): a convolution over the patch on the way in, a product for each of its
  // places on the way out.
  patch_in_ = ops::PackedProduct(weights.sub("patch_in").get("weight", {width, values}).reshape({width, fine, p, p}),
                                 weights.sub("patch_in").get("bias", {width}));
  const at::Tensor out = weights.sub("patch_out").get("weight", {values, width}),
                   out_bias = weights.sub("patch_out").get("bias", {values});
  for (int64_t place = 0; place < p * p; ++place)
    patch_out_.emplace_back(out.slice(0, place, {}, p * p), out_bias.slice(0, place, {}, p * p));
  action_in_ = single(weights, "action_in", sizes.action_features, width);
  action_out_ = single(weights, "action_out", width, width);
  position_ = weights.get("position", {sizes.tokens, width}).to(at::kFloat).contiguous();
  std::vector<at::Tensor> weight, bias;  // of all modulations, as one product
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const Weights w = weights.sub("blocks", i);
    // Who sees one frame attends to it alone, whatever its queries and keys are.
    const int64_t unseen = sizes.window > 1 ? 0 : 2 * width;
    const at::Tensor time_weight = w.sub("time_qkv").get("weight", {3 * width, width}),
                     time_bias = w.sub("time_qkv").get("bias", {3 * width});
    blocks_.push_back({linear(w, "space_qkv", width, 3 * width), linear(w, "space_out", width, width),
                       ops::PackedProduct(time_weight.slice(0, unseen), time_bias.slice(0, unseen)),
                       linear(w, "time_out", width, width), linear(w, "mlp_in", width, sizes.mlp),
                       linear(w, "mlp_out", sizes.mlp, width)});
    weight.push_back(w.sub("modulation").get("weight", {9 * width, width}));
    bias.push_back(w.sub("modulation").get("bias", {9 * width}));
  }
  weight.push_back(weights.sub("final_modulation").get("weight", {2 * width, width}));
  bias.push_back(weights.sub("final_modulation").get("bias", {2 * width}));
  modulation_ = ops::PackedProduct(at::cat(weight), at::cat(bias), ops::PackedProduct::Form::kVectors);
}

std::vector<float> FastTransformer::conditions(const at::Tensor& noise, std::span<const float> levels,
                                               std::span<const float> action_features) const {
  const int64_t passes = noise.size(0), width = sizes_.width, modulations = modulation_.columns();
  std::vector<float> inner(width), action(width),
      condition(noise.const_data_ptr<float>(), noise.const_data_ptr<float>() + passes * width);
  action_in_(action_features.data(), 1, inner.data());
  ops::silu(inner.data(), width);
  action_out_(inner.data(), 1, action.data());
  for (int64_t i = 0; i < passes * width; ++i) condition[i] += action[i % width];
  ops::silu(condition.data(), passes * width);
  std::vector<float> features(action_features.begin(), action_features.end()), told, out;
  features.push_back(0);
  for (const float level : levels) {
    features.back() = level;
    told.insert(told.end(), features.begin(), features.end());
  }
  std::vector<int64_t> from(passes), told_from(passes), to(passes), planes_to(passes);
  for (int64_t i = 0; i < passes; ++i) {
    from[i] = i * width;
    told_from[i] = i * plane_in_.depth();
    to[i] = i * row();
    planes_to[i] = to[i] + modulations;
  }
  out.resize(passes * row());
  constexpr std::array<int64_t, 1> kHere = {0};
  modulation_(condition.data(), from, kHere, out.data(), to);
  plane_in_(told.data(), told_from, kHere, out.data(), planes_to);
  return out;
}

// The upper left place of each token's patch.
std::vector<int64_t> FastTransformer::corners() const {
  const int64_t grid = sizes_.side / sizes_.patch;
  std::vector<int64_t> out(sizes_.tokens);
  for (int64_t s = 0; s < sizes_.tokens; ++s)
    out[s] = (s / grid * sizes_.side + s % grid) * sizes_.patch * sizes_.conv_width;
  return out;
}

// What the convolutions before the tokens make of a frame: fine [h·w,E]
void FastTransformer::stem(const float* noisy, const float* previous, const float* planes, float* fine) const {
  const int64_t side = sizes_.side;
  ops::Workspace memory;
  float* const picture = conv_in_.picture(memory);
  int64_t channel = 0;
  const auto put = [&](const float* from, int64_t count) {
    for (const int64_t end = channel + count; channel < end; ++channel)
      for (int64_t y = 0; y < side; ++y) {
        float* to = picture + conv_in_.at(y, 0) + channel;
        for (int64_t x = 0; x < side; ++x, to += conv_in_.depth()) *to = *from++;
      }
  };
  put(noisy, sizes_.channels);
  put(previous, 2 * sizes_.channels);
  put(planes, sizes_.planes);
  conv_in_(picture, fine);
  conv_stem_.after_silu(fine, fine, Then::kAdd);
}

// picture [h·w,E] as seen from elsewhere: each group of channels at each place plus flow [h·w,2·groups], x before y, in
// places; between places in bilinear steps, beyond the edge the edge.
void FastTransformer::move(const float* picture, const float* flow, float* out) const {
  const int64_t side = sizes_.side, width = sizes_.conv_width, groups = sizes_.flows, each = width / groups;
  const auto edge = static_cast<float>(side - 1);
  for (int64_t i = 0; i < side * side; ++i)
    for (int64_t group = 0; group < groups; ++group) {
      const float* shift = flow + (i * groups + group) * 2;
      const float x = std::max(0.f, std::min(edge, static_cast<float>(i % side) + shift[0]));  // not a number: the edge
      const float y = std::max(0.f, std::min(edge, static_cast<float>(i / side) + shift[1]));
      const auto left = static_cast<int64_t>(x), upper = static_cast<int64_t>(y);
      const int64_t right = std::min(left + 1, side - 1), lower = std::min(upper + 1, side - 1);
      const float u = x - static_cast<float>(left), v = y - static_cast<float>(upper);
      const auto at = [&](int64_t row, int64_t column) { return picture + (row * side + column) * width + group * each; };
      const float *a = at(upper, left), *b = at(upper, right), *c = at(lower, left), *d = at(lower, right);
      float* to = out + i * width + group * each;
      for (int64_t n = 0; n < each; ++n) to[n] = (1 - v) * ((1 - u) * a[n] + u * b[n]) + v * ((1 - u) * c[n] + u * d[n]);
    }
}

// And those after: tokens [S,D] → clean [C,h,w]; `fine` is what they are added to.
void FastTransformer::head(const float* tokens, float* fine, const float* previous, float* clean) const {
  const int64_t side = sizes_.side, p = sizes_.patch, channels = sizes_.channels, size = side * side * sizes_.conv_width;
  ops::Workspace memory;
  const float* before = nullptr;
  if (conv_flow_) before = static_cast<const float*>(std::memcpy(memory.floats(size), fine, size * sizeof(float)));
  const std::vector<int64_t> places = corners();
  std::vector<int64_t> from(sizes_.tokens);
  for (int64_t s = 0; s < sizes_.tokens; ++s) from[s] = s * sizes_.width;
  for (int64_t place = 0; place < p * p; ++place)
    patch_out_[place](tokens, from, std::array<int64_t, 1>{0}, fine + (place / p * side + place % p) * sizes_.conv_width,
                      places, Then::kAdd);
  if (conv_flow_) {
    float *const flow = memory.floats(side * side * 2 * sizes_.flows), *const moved = memory.floats(size);
    conv_flow_->after_silu(fine, flow);
    move(before, flow, moved);
    conv_moved_->after_silu(moved, fine, Then::kAdd);
  }
  for (const ops::SmallConvolution& conv : convs_head_) conv.after_silu(fine, fine, Then::kAdd);
  float* const change = memory.floats(side * side * channels);
  conv_out_.after_silu(fine, change);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < side * side; ++i)
      clean[c * side * side + i] = previous[c * side * side + i] + change[i * channels + c];
}

// Cosines and sines of a frame number [d/2,2]; angles in double, so that worlds may live long.
std::vector<float> FastTransformer::angles(int64_t frame) const {
  const int64_t half = sizes_.width / sizes_.heads / 2;
  std::vector<float> out;
  for (int64_t i = 0; i < half; ++i) {
    const double angle =
        static_cast<double>(frame) * std::pow(sizes_.rope_base, -static_cast<double>(i) / static_cast<double>(half));
    out.push_back(static_cast<float>(std::cos(angle)));
    out.push_back(static_cast<float>(std::sin(angle)));
  }
  return out;
}

// Turns the heads of S rows, each [heads,d], by such angles.
void FastTransformer::rotate(float* rows, std::span<const float> angles) const {
  const int64_t dim = sizes_.width / sizes_.heads, half = dim / 2;
  for (int64_t row = 0; row < sizes_.tokens; ++row)
    for (int64_t head = 0; head < sizes_.heads; ++head) {
      float *a = rows + row * 3 * sizes_.width + head * dim, *b = a + half;
      for (int64_t i = 0; i < half; ++i) {
        const float cosine = angles[2 * i], sine = angles[2 * i + 1], turned = a[i] * cosine - b[i] * sine;
        b[i] = b[i] * cosine + a[i] * sine;
        a[i] = turned;
      }
    }
}

void FastTransformer::forward(const float* noisy, const float* previous, const float* condition, int64_t frame,
                              std::span<const float* const> pages, float* page, float* clean) const {
  const int64_t tokens = sizes_.tokens, width = sizes_.width, heads = sizes_.heads, dim = width / heads;
  const int64_t layer_size = 2 * tokens * width;
  const float factor = 1 / std::sqrt(static_cast<float>(dim));
  const auto eps = static_cast<float>(sizes_.eps);
  const auto known = static_cast<int64_t>(pages.size());
  ops::Workspace memory;
  float *const x = memory.floats(tokens * width), *const normal = memory.floats(tokens * width),
               *const mixed = memory.floats(tokens * width), *const qkv = memory.floats(tokens * 3 * width),
               *const inner = memory.floats(tokens * sizes_.mlp),
               *const scores = memory.floats(std::max((dim + 1) * ops::padded_keys(tokens), known + 16)),
               *const fine = memory.floats(sizes_.side * sizes_.side * sizes_.conv_width);
  std::vector<const float*> keys(known + 1), seen(known + 1);

  const std::vector<float> turns = sizes_.window > 1 ? angles(frame) : std::vector<float>();
  const int64_t p = sizes_.patch;
  stem(noisy, previous, condition + modulation_.columns(), fine);
  std::vector<int64_t> taps, rows(tokens);
  for (int64_t place = 0; place < p * p; ++place) taps.push_back((place / p * sizes_.side + place % p) * sizes_.conv_width);
  for (int64_t s = 0; s < tokens; ++s) rows[s] = s * width;
  std::memcpy(x, position_.const_data_ptr<float>(), tokens * width * sizeof(float));
  patch_in_(fine, corners(), taps, x, rows, Then::kAdd);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    const auto part = [&](int64_t which) {
      return condition + (static_cast<int64_t>(i) * 9 + which) * width;
    };  // shift, scale, gate; three times

    ops::modulated_norm(x, part(0), part(1), tokens, width, eps, normal);
    block.space_qkv(normal, tokens, qkv);
    ops::self_attend({qkv, tokens, heads, dim, factor}, scores, mixed);
    block.space_out(mixed, tokens, x, Then::kAddGated, part(2));

    ops::modulated_norm(x, part(3), part(4), tokens, width, eps, normal);
    if (sizes_.window == 1) {
      block.time_qkv(normal, tokens, mixed);
    } else {
      block.time_qkv(normal, tokens, qkv);
      rotate(qkv, turns);
      rotate(qkv + width, turns);
      if (page != nullptr)
        for (int64_t s = 0; s < tokens; ++s) {
          float* kept = page + static_cast<int64_t>(i) * layer_size + s * width;
          std::memcpy(kept, qkv + s * 3 * width + width, width * sizeof(float));
          std::memcpy(kept + tokens * width, qkv + s * 3 * width + 2 * width, width * sizeof(float));
        }
      if (clean == nullptr && i + 1 == blocks_.size()) return;  // what follows reaches no page
      for (int64_t s = 0; s < tokens; ++s) {
        for (int64_t age = 0; age < known; ++age) {
          keys[age] = pages[age] + static_cast<int64_t>(i) * layer_size + s * width;
          seen[age] = keys[age] + tokens * width;
        }
        keys[known] = qkv + s * 3 * width + width;
        seen[known] = keys[known] + width;
        ops::attend(qkv + s * 3 * width, keys.data(), seen.data(), known + 1, heads, dim, factor, scores, mixed + s * width);
      }
    }
    block.time_out(mixed, tokens, x, Then::kAddGated, part(5));

    ops::modulated_norm(x, part(6), part(7), tokens, width, eps, normal);
    block.mlp_in(normal, tokens, inner);
    ops::gelu_tanh(inner, tokens * sizes_.mlp);
    block.mlp_out(inner, tokens, x, Then::kAddGated, part(8));
  }
  if (clean == nullptr) return;
  const float* last = condition + static_cast<int64_t>(blocks_.size()) * 9 * width;
  ops::modulated_norm(x, last, last + width, tokens, width, eps, normal);
  head(normal, fine, previous, clean);
}

}  // namespace orrery::models

#include "models/wan/causal_wan_world.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>

#include "layers/side_stream.h"
#include "models/wan/causal_wan_stream.h"
#include "models/wan/world_actions.h"
#include "orrery/autoencoder.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/noise.h"
#include "orrery/text.h"

// Source: zoheth/Matrix-Game (fork of SkyworkAI/Matrix-Game) Matrix-Game-2 inference.py and pipeline/causal_inference.py at
// 62dedd1.
namespace orrery::models {
namespace {

// What a step changes; State::caches holds it in this order, empty tensors for what is not there yet.
struct Going {
  at::Tensor actions;      // [1,T,A] of the last pixel frames that a window can still reach
  CausalWanMemory memory;  // its counter first
  CodecCache decoder;
};

constexpr const char* kPicture = "picture";  // in State::context, beside the keys of the cross-attention
std::string context_name(const char* kind, size_t block) {
  return std::string(kind) + "." + std::to_string(block);
}

at::Tensor or_empty(const at::Tensor& tensor) {
  return tensor.defined() ? tensor : at::empty({0}, at::kFloat);
}
at::Tensor or_undefined(const at::Tensor& tensor) {
  return tensor.numel() > 0 ? tensor : at::Tensor();
}

class CausalWanWorld final : public World {
 public:
  CausalWanWorld(const ModelDescription& model, const LoadOptions& options)
      : load_(options), prompt_(PromptParts::of(model, options)) {
    std::shared_ptr<const CausalWanModel> network;
    for (const ComponentDescription& part : model.components) {
      if (part.name == "image_encoder") image_encoder_ = part;
      if (part.name == "vae")
        vae_ = std::dynamic_pointer_cast<const Autoencoder>(
            std::shared_ptr<const Component>(load_component(part, options.as_stored())));
      if (part.name == "transformer")
        network =
            std::dynamic_pointer_cast<const CausalWanModel>(std::shared_ptr<const Component>(load_component(part, options)));
    }
    if (!network || !vae_)
      throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                       .what = "lacks a part of this world",
                                       .expected = "the causal network and the Wan VAE"});
    by_words_ = network->sizes().text_dim > 0;
    const auto index = model.path / "model_index.json";
    const Config config = std::filesystem::exists(index) ? Config::load(index) : Config();
    height_ = config.get<int64_t>("sample_height", by_words_ ? 480 : 352);
    width_ = config.get<int64_t>("sample_width", by_words_ ? 832 : 640);
    actions_ = causal_wan_actions(model);
    stream_.emplace(std::move(network));
    beside_.emplace(options.device);
  }

  const ActionSpace& action_space() const override { return actions_; }
  int64_t height() const override { return height_; }
  int64_t width() const override { return width_; }

  bool takes_prompt() const override { return by_words_; }

  State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const override {
    State state;
    state.seed = seed;
    if (by_words_)
      begin_with_words(observed, prompt, state);
    else
      begin_with_picture(observed, prompt.conditions, state);
    pack({}, state);
    return state;
  }

  // The keys of the past stay those that were made under the words of then, as in the reference, whose cross-attention alone
  // is reset where the prompt changes.
  void follow(State& state, const WorldPrompt& prompt) const override {
    if (!by_words_) return World::follow(state, prompt);
    const at::Tensor& given = prompt.conditions.text;
    const auto embed = [&](const TextTokenizer& tokenizer, const Component& encoder, const std::string& text, int64_t& cut) {
      return embed_masked(tokenizer, encoder, collapse_white_space(text), stream_->model().text_len(), cut);
    };
    const at::Tensor text = given.defined() ? given : prompt_.embed({prompt.text}, embed).front();
    keep_keys(*stream_->model().prepare(text.to(device(), at::kFloat), {}), state);
  }

  at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const override {
    Going going = unpack(state);
    const auto& model = stream_->model();
    const int64_t frames = model.frames_per_block(), first = going.memory.frames, channels = model.sizes().out_channels;
    const int64_t stride = vae_->spec().spatial_stride;
    const std::vector<int64_t> shape = {1, channels, frames, height_ / stride, width_ / stride};
    const auto draws = [&](int64_t draw) {
      if (noise.defined()) return given_noise(noise, draw, shape);
      std::vector<at::Tensor> each;  // a latent frame's noise does not depend on the block it falls into
      for (int64_t j = 0; j < frames; ++j)
        each.push_back(normal_noise({1, channels, 1, shape[3], shape[4]}, state.seed, static_cast<uint32_t>(first + j),
                                    static_cast<uint32_t>(draw)));
      return at::cat(each, 2).to(device());
    };
    ActionWindows actions;
    at::Tensor known;
    if (!by_words_) {
      hold(going, at::tensor(action, at::kDouble).to(device(), at::kFloat), frames);
      actions = windows(going.actions);
      known = beside(state.context.at(kPicture), first, frames);
    }
    at::Tensor pixels;  // decoded while the network looks at the block once more for its keys
    const at::Tensor latents =
        stream_->next(context_of(state), actions, known, draws, going.memory, [&](const at::Tensor& block) {
          pixels = beside_->run(
              [&] { return vae_->decode_chunk(vae_->normalization().undo(block, first), going.decoder, /*last=*/false); });
        });
    beside_->join();
    state.last = latents;
    state.frame += pixels.size(2);
    pack(going, state);
    return pixels.clamp(-1, 1).squeeze(0).transpose(0, 1).contiguous();  // [T,3,H,W]
  }

 private:
  void begin_with_words(const Video& observed, const WorldPrompt& prompt, State& state) const {
    if (observed.num_frames() > 0)
      throw Error(ErrorKind::kArgument, {.place = "observation",
                                         .what = "cannot be used: this world begins with words alone",
                                         .expected = "no frame",
                                         .got = std::to_string(observed.num_frames())});
    follow(state, prompt);
  }

  void begin_with_picture(const Video& observed, const Conditions& conditions, State& state) const {
    if (observed.num_frames() != 1)
      throw Error(ErrorKind::kArgument, {.place = "observation",
                                         .what = "is not one picture",
                                         .expected = "1 frame",
                                         .got = std::to_string(observed.num_frames())});
    if (!conditions.image.defined() && !image_encoder_)
      throw Error(ErrorKind::kArgument, {.place = "conditions.image",
                                         .what = "is needed and lacks",
                                         .expected = "the picture's CLIP tokens, float [1,257," +
                                                     std::to_string(stream_->model().sizes().image_dim) + "]",
                                         .hint = "give them with --embeds (tensor `image_embeds`)"});
    const at::Tensor picture = fitted(observed);
    state.context[kPicture] = encode(picture);
    const at::Tensor tokens = conditions.image.defined() ? conditions.image.to(at::kFloat) : picture_tokens(picture);
    keep_keys(*stream_->model().prepare({}, tokens), state);
  }

  static void keep_keys(const WanContext& context, State& state) {
    for (size_t i = 0; i < context.cross_keys.size(); ++i) {
      state.context[context_name("key", i)] = context.cross_keys[i].key;
      state.context[context_name("value", i)] = context.cross_keys[i].value;
    }
  }

  // Cut to the wanted aspect ratio around the middle, as the reference cuts (in whole pixels), then resized: [1,3,1,H,W] in
  // [-1,1].
  at::Tensor fitted(const Video& observed) const {
    const auto h = static_cast<double>(observed.frames.size(1)), w = static_cast<double>(observed.frames.size(2));
    const double aspect = static_cast<double>(height_) / static_cast<double>(width_);
    const double new_h = h / w > aspect ? std::floor(w * aspect) : h, new_w = h / w > aspect ? w : std::floor(h / aspect);
    const auto top = static_cast<int64_t>(std::nearbyint((h - new_h) / 2)),
               bottom = static_cast<int64_t>(std::nearbyint((h + new_h) / 2));
    const auto left = static_cast<int64_t>(std::nearbyint((w - new_w) / 2)),
               right = static_cast<int64_t>(std::nearbyint((w + new_w) / 2));
    Video cut{observed.frames.slice(1, top, bottom).slice(2, left, right).contiguous(), observed.fps};
    return to_input(resize(cut, {.height = height_, .width = width_})).to(device());
  }

  // What CLIP says of the picture one block before its end; loaded for this alone, since no step needs it.
  at::Tensor picture_tokens(const at::Tensor& picture) const {
    const auto side = image_encoder_->config.get<int64_t>("image_size", 224);
    const at::Tensor mean = at::tensor({0.48145466, 0.4578275, 0.40821073}, at::kFloat).view({1, 3, 1, 1}).to(device());
    const at::Tensor deviation =
        at::tensor({0.26862954, 0.26130258, 0.27577711}, at::kFloat).view({1, 3, 1, 1}).to(device());
    const at::Tensor small =
        at::upsample_bicubic2d(picture.squeeze(2), at::IntArrayRef{side, side}, /*align_corners=*/false);
    const TensorMap told =
        load_component(*image_encoder_, load_)
            ->call("forward", {{"pixel_values", (small * 0.5 + 0.5 - mean) / deviation}}, {.all_layers = true});
    int64_t states = 0;  // the embeddings, then one for each block
    while (told.contains("hidden_states." + std::to_string(states))) ++states;
    return told.at("hidden_states." + std::to_string(states - 2));
  }

  // The network is shown the latents of the picture followed by grey, as long as the game goes on. Convolutions look back a
  // bounded time, so the latents stop changing: encoded until then.
  at::Tensor encode(const at::Tensor& picture) const {
    constexpr int64_t kLongest = 32;
    CodecCache cache;
    std::vector<at::Tensor> latents = {vae_->normalization().apply(vae_->encode_chunk(picture, cache, false).latent, 0)};
    const at::Tensor grey = at::zeros({1, 3, vae_->spec().temporal_stride, height_, width_}, picture.options());
    while (static_cast<int64_t>(latents.size()) < kLongest) {
      latents.push_back(
          vae_->normalization().apply(vae_->encode_chunk(grey, cache, false).latent, static_cast<int64_t>(latents.size())));
      const size_t n = latents.size();
      if (n > 3 && latents[n - 1].equal(latents[n - 2])) break;
    }
    return at::cat(latents, 2);
  }

  // What stands behind the noisy channels: 4 of a mask that is one on the first latent frame, then the picture's latents.
  static at::Tensor beside(const at::Tensor& picture, int64_t first, int64_t frames) {
    constexpr int64_t kMaskChannels = 4;
    const at::Tensor index =
        at::arange(first, first + frames, picture.options().dtype(at::kLong)).clamp_max(picture.size(2) - 1);
    at::Tensor mask = at::zeros({1, kMaskChannels, frames, picture.size(3), picture.size(4)}, picture.options());
    if (first == 0) mask.select(2, 0).fill_(1);
    return at::cat({mask, picture.index_select(2, index)}, 1);
  }

  WanContext context_of(const State& state) const {
    WanContext context;
    for (int64_t i = 0; i < stream_->model().sizes().num_layers; ++i) {
      WanCrossKeys keys;
      keys.key = state.context.at(context_name("key", i));
      keys.value = state.context.at(context_name("value", i));
      context.cross_keys.push_back(std::move(keys));
    }
    return context;
  }

  // The action is held for the pixel frames of the block; before the first frame it counts as held too.
  void hold(Going& going, const at::Tensor& row, int64_t frames) const {
    const auto& config = stream_->model().actions();
    const int64_t stride = config.vae_time_compression_ratio, kept = config.window() + stride * (frames - 1) + 1;
    const int64_t fresh = going.actions.numel() == 0 ? kept : stride * frames;
    const at::Tensor held = row.view({1, 1, -1}).expand({1, fresh, -1});
    going.actions =
        going.actions.numel() == 0 ? held.contiguous() : at::cat({going.actions, held}, 1).slice(1, -kept).contiguous();
  }

  ActionWindows windows(const at::Tensor& actions) const {
    const auto& config = stream_->model().actions();
    // Latent frames lie `stride` pixel frames apart: [1,T,A] → [1,t,window,A]
    const at::Tensor all = actions.unfold(1, config.window(), config.vae_time_compression_ratio).transpose(2, 3);
    ActionWindows windows;
    if (config.enable_keyboard) windows.keyboard = all.slice(3, 0, config.keyboard_dim_in).contiguous();
    if (config.enable_mouse) windows.mouse = all.slice(3, all.size(3) - config.mouse_dim_in).contiguous();
    return windows;
  }

  // One draw [t,C,h,w] after the other along the first axis.
  static at::Tensor given_noise(const at::Tensor& noise, int64_t draw, const std::vector<int64_t>& shape) {
    const int64_t numel = shape[1] * shape[2] * shape[3] * shape[4];
    if (noise.numel() % numel != 0 || noise.numel() / numel <= draw)
      throw Error(ErrorKind::kArgument,
                  {.place = "noise",
                   .what = "does not fit a step",
                   .expected = "draws of " + std::to_string(numel) + " numbers, at least " + std::to_string(draw + 1),
                   .got = std::to_string(noise.numel()) + " numbers"});
    return noise.to(at::kFloat)
        .reshape({-1, shape[2], shape[1], shape[3], shape[4]})
        .narrow(0, draw, 1)
        .transpose(1, 2)
        .contiguous();
  }

  size_t modules() const { return stream_->model().modules(); }
  size_t layers() const { return static_cast<size_t>(stream_->model().sizes().num_layers); }

  void pack(const Going& going, State& state) const {
    std::vector<at::Tensor>& out = state.caches;
    const CausalWanMemory& memory = going.memory;
    out = {at::tensor(std::vector<int64_t>{memory.frames, going.decoder.position}, at::kLong), or_empty(going.actions)};
    for (size_t i = 0; i < layers(); ++i) out.push_back(or_empty(i < memory.keys.size() ? memory.keys[i] : at::Tensor()));
    for (size_t i = 0; i < modules(); ++i) {
      const ActionModule::Keys keys = i < memory.action_keys.size() ? memory.action_keys[i] : ActionModule::Keys();
      out.insert(out.end(), {or_empty(keys.mouse), or_empty(keys.keyboard)});
    }
    for (const at::Tensor& slot : going.decoder.slots) out.push_back(or_empty(slot));
  }

  Going unpack(const State& state) const {
    Going going;
    auto next = state.caches.begin();
    going.memory.frames = (*next)[0].item<int64_t>();
    going.decoder.position = (*next++)[1].item<int64_t>();
    going.actions = or_undefined(*next++);
    if (going.memory.frames == 0) return going;
    for (size_t i = 0; i < layers(); ++i) going.memory.keys.push_back(*next++);
    for (size_t i = 0; i < modules(); ++i) {
      ActionModule::Keys keys;
      keys.mouse = or_undefined(*next++);
      keys.keyboard = or_undefined(*next++);
      going.memory.action_keys.push_back(std::move(keys));
    }
    for (; next != state.caches.end(); ++next) going.decoder.slots.push_back(or_undefined(*next));
    return going;
  }

  // The tails of the decoder have sizes that only it knows, and it checks them.
  void verify(const State& state) const override {
    const auto& sizes = stream_->model().sizes();
    const int64_t stride = vae_->spec().spatial_stride;
    const auto is = [](const at::Tensor& tensor, at::ScalarType type,
                       std::initializer_list<int64_t> shape) {  // −1: any size
      if (!tensor.defined() || tensor.scalar_type() != type || tensor.dim() != static_cast<int64_t>(shape.size()))
        return false;
      return std::equal(shape.begin(), shape.end(), tensor.sizes().begin(),
                        [](int64_t a, int64_t b) { return a == -1 || a == b; });
    };
    const auto picture = state.context.find(kPicture);
    const bool seen = picture != state.context.end();
    bool right =
        seen != by_words_ && state.context.size() == (seen ? 1 : 0) + 2 * layers() &&
        (!seen || is(picture->second, at::kFloat, {1, sizes.out_channels, -1, height_ / stride, width_ / stride})) &&
        state.caches.size() >= 2 + layers() + 2 * modules() && is(state.caches[0], at::kLong, {2});
    for (size_t i = 0; right && i < layers(); ++i)
      for (const char* kind : {"key", "value"})
        right = right && state.context.contains(context_name(kind, i)) &&
                is(state.context.at(context_name(kind, i)), at::kFloat,
                   {1, -1, sizes.num_attention_heads, sizes.attention_head_dim});
    const bool begun = right && state.caches[0][0].item<int64_t>() > 0;
    right = right &&
            (begun && !by_words_ ? is(state.caches[1], at::kFloat, {1, -1, actions_.width}) : state.caches[1].numel() == 0);
    for (size_t i = 0; begun && right && i < layers(); ++i)
      right = is(state.caches[2 + i], at::kFloat, {2, 1, -1, sizes.num_attention_heads, sizes.attention_head_dim});
    if (!right)
      throw Error(ErrorKind::kArgument, {.place = "state", .what = "holds tensors of other shapes than this world's"});
  }

  LoadOptions load_;
  PromptParts prompt_;
  bool by_words_ = false;                              // text to video: no picture, no actions
  std::optional<ComponentDescription> image_encoder_;  // CLIP, where the folder holds it
  int64_t height_ = 352, width_ = 640;
  ActionSpace actions_;
  std::shared_ptr<const Autoencoder> vae_;
  std::optional<CausalWanStream> stream_;
  std::optional<layers::Beside> beside_;
};

}  // namespace

ActionSpace causal_wan_actions(const ModelDescription& model) {
  for (const ComponentDescription& part : model.components)
    if (part.name == "transformer") return game_actions(part.config);
  return {};
}

std::unique_ptr<World> build_causal_wan_world(const ModelDescription& model, const LoadOptions& options) {
  return std::make_unique<CausalWanWorld>(model, options);
}

}  // namespace orrery::models

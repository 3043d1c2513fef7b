#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "layers/attention.h"
#include "models/wan/causal_wan_model.h"
#include "ops/paged_attention.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "support/compare.h"
#include "support/far_device.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery::models {
namespace {

// The tensors by which a network of two blocks is recognised, under `prefix`.
TensorMap network(const std::string& prefix, bool actions) {
  TensorMap tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    tensors[prefix + name] = at::zeros(shape, at::kHalf);
  };
  add("patch_embedding.weight", {256, actions ? 36 : 16, 1, 2, 2});
  add("head.head.weight", {64, 256});
  add("time_embedding.0.weight", {256, 32});
  for (const char* block : {"blocks.0.", "blocks.1."}) {
    add(std::string(block) + "self_attn.q.weight", {256, 256});
    add(std::string(block) + "ffn.0.weight", {512, 256});
  }
  add(actions ? "img_emb.proj.0.weight" : "text_embedding.0.weight",
      actions ? std::vector<int64_t>{1280} : std::vector<int64_t>{256, 4096});
  if (!actions) return tensors;
  add("blocks.0.action_model.keyboard_embed.0.weight", {128, 2});
  add("blocks.0.action_model.keyboard_embed.2.weight", {128, 128});
  add("blocks.0.action_model.mouse_attn_q.weight", {1024, 256});
  add("blocks.0.action_model.mouse_mlp.2.weight", {1024, 1024});
  return tensors;
}

TEST(CausalWanDescribe, ReadsATrainingCheckpointsAverage) {
  TensorMap tensors = network("generator_ema.model.", false);
  tensors.merge(network("generator.model.", false));
  const auto config = describe_causal_wan(Weights::from(tensors, "x.pt"));
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get<std::string>("_section", ""), "generator_ema.model");
  EXPECT_EQ(config->get<int64_t>("dim", 0), 256);
  EXPECT_EQ(config->get<int64_t>("num_heads", 0), 2);
  EXPECT_EQ(config->get<int64_t>("num_layers", 0), 2);
  EXPECT_EQ(config->get<std::string>("model_type", ""), "t2v");
}

TEST(CausalWanDescribe, ReadsAGamesActions) {
  const auto config = describe_causal_wan(Weights::from(network("", true), "x.safetensors"));
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get<std::string>("model_type", ""), "i2v");
  EXPECT_EQ(config->get<int64_t>("local_attn_size", 0), 4);  // the driving game
  const ActionModuleConfig actions(config->object("action_config"));
  EXPECT_EQ(actions.blocks, (std::vector<int64_t>{0}));
  EXPECT_TRUE(actions.enable_mouse);
  EXPECT_EQ(actions.keyboard_dim_in, 2);
  EXPECT_EQ(actions.heads_num, 16);
}

TEST(CausalWanDescribe, LeavesAPlainNetworkToOthers) {
  EXPECT_FALSE(describe_causal_wan(Weights::from(network("", false), "x.safetensors")));
}

TEST(ActionWindows, EachLatentFrameSeesTheFramesBeforeIt) {
  const at::Tensor frames = at::arange(9, at::kFloat).view({1, 9, 1});
  const at::Tensor windows = action_windows(frames, ActionModuleConfig(), /*first=*/0, /*count=*/3);
  ASSERT_EQ(windows.sizes(), at::IntArrayRef({1, 3, 12, 1}));
  EXPECT_TRUE(windows[0][0].eq(0).all().item<bool>());  // nothing before the first: its action is repeated
  EXPECT_EQ(windows[0][2][0][0].item<float>(), 0);
  EXPECT_EQ(windows[0][2][5][0].item<float>(), 1);
  EXPECT_EQ(windows[0][2][11][0].item<float>(), 7);
  EXPECT_THROW(action_windows(frames, ActionModuleConfig(), 3, 1), Error);
}

// Two calls of one block each say what one call of two blocks says.
TEST(CausalWanModelTest, BlocksInOneCallOrInTwo) {
  const auto folder = testing::golden_folder() / "transformer_causal_wan";
  const auto component = load_component((folder / "model").string(), "transformer");
  const auto& model = dynamic_cast<const CausalWanModel&>(*component);
  const TensorMap in = load_safetensors(folder / "in.safetensors");
  const at::Tensor whole = component->call("forward", in, {}).at("sample");
  const auto context = model.prepare(in.at("context"), {});
  CausalWanMemory memory;
  for (const int64_t first : {0, 3}) {
    const at::Tensor x = in.at("x").narrow(2, first, 3), times = in.at("t").narrow(1, first, 3);
    // A look that is not kept leaves no trace.
    model.forward(x * 2, times, *context, {}, memory, /*keep=*/false);
    const at::Tensor part = model.forward(x, times, *context, {}, memory, /*keep=*/true);
    EXPECT_TRUE(testing::is_close(part, whole.narrow(2, first, 3), testing::kSameMath));
  }
  EXPECT_EQ(memory.frames, 6);
  EXPECT_EQ(memory.keys.front().size(2), 4 * 6);  // a window of four frames of six tokens
  EXPECT_THROW(model.prepare({}, at::zeros({1, 5, 16})), Error);
  EXPECT_THROW(model.prepare(at::zeros({1, 9, 16}), {}), Error);
}

// What a block of a rolling window sees, in the pages of a ring with a sink: what docs/kernels.md says about the two.
TEST(CausalWanModelTest, TheRollingWindowIsARingOfPages) {
  ComponentDescription part =
      describe_model((testing::golden_folder() / "transformer_causal_wan/model").string()).components.front();
  constexpr int64_t kWindow = 5, kSink = 1, kFrames = 2, kPlaces = 6;
  part.config = part.config.with("local_attn_size", kWindow).with("sink_size", kSink).with("num_frame_per_block", kFrames);
  const auto component = load_component(part);
  const auto& model = dynamic_cast<const CausalWanModel&>(*component);
  const TensorMap in = load_safetensors(testing::golden_folder() / "transformer_causal_wan/in.safetensors");
  const auto context = model.prepare(in.at("context").narrow(0, 0, 1), {});
  at::manual_seed(3);
  CausalWanMemory memory;
  ops::PagedKeys pages;
  for (int64_t block = 0; block < 5; ++block) {
    const at::Tensor x = at::randn_like(in.at("x").narrow(0, 0, 1).narrow(2, 0, kFrames));
    model.forward(x, at::zeros({1, kFrames}), *context, {}, memory, /*keep=*/true);
    const at::Tensor seen = memory.keys.back(), own = seen.slice(2, -kFrames * kPlaces);  // [2,1,N,heads,d]
    if (block == 0) {
      pages.keys = at::zeros({kWindow, kPlaces, own.size(3), own.size(4)});  // a page a frame
      pages.values = at::zeros_like(pages.keys);
      pages.table = at::arange(kWindow, at::kInt).view({1, -1});
      pages.sink = kSink * kPlaces;
    }
    for (int64_t frame = block * kFrames; frame < (block + 1) * kFrames; ++frame) {
      const int64_t page = frame < kSink ? frame : kSink + (frame - kSink) % (kWindow - kSink);
      const at::Tensor fresh = own.slice(2, (frame - block * kFrames) * kPlaces).narrow(2, 0, kPlaces).select(1, 0);
      pages.keys[page].copy_(fresh[0]);
      pages.values[page].copy_(fresh[1]);
    }
    pages.length = memory.frames * kPlaces;
    const int64_t window = (kWindow - kSink) * kPlaces;
    ASSERT_EQ(ops::visible_tokens(pages, window), seen.size(2));
    const at::Tensor query = at::randn_like(own[0]);
    EXPECT_TRUE(testing::is_close(ops::paged_attention(query, pages, window, {}, {}, false).flatten(2),
                                  layers::attention(query, seen[0], seen[1]), testing::kSameMath))
        << "block " << block;
  }
}

// What CLIP is shown and which of its layers counts: against the tokens that the original repository makes of a picture.
TEST(MatrixGameTest, LooksAtThePictureAsTheOriginalDoes) {
  const std::filesystem::path golden = std::filesystem::absolute(testing::golden_folder());
  const std::filesystem::path game = golden / "worlds/matrix_game/model", clip = golden / "original_wan_image_encoder";
  const testing::TemporaryFolder folder;
  for (const char* part : {"transformer", "vae"}) std::filesystem::create_symlink(game / part, folder / part);
  std::filesystem::create_symlink(clip / "model", folder / "image_encoder");
  testing::write_file(folder / "model_index.json",
                      R"({"_class_name": "CausalInferencePipeline", "sample_height": 16, "sample_width": 32,
                         "transformer": ["wan", "CausalWanModel"], "vae": ["diffusers", "AutoencoderKLWan"],
                         "image_encoder": ["wan", "CLIPVisionModel"]})");
  const TensorMap looked = load_safetensors(clip / "picture.safetensors");
  const Video picture{looked.at("picture"), 0};
  WorldPrompt told;
  told.conditions.image = looked.at("tokens");
  const auto looking = World::from_pretrained(folder.path().string()), blind = World::from_pretrained(game.string());
  State one = looking->begin(picture, 3), other = blind->begin(picture, 3, told), stranger = blind->begin(picture, 3, [&] {
    WorldPrompt wrong;
    wrong.conditions.image = looked.at("tokens").flip(2);
    return wrong;
  }());
  const std::vector<double> idle = looking->action_space().idle;
  const at::Tensor frames = looking->step(one, idle);
  EXPECT_TRUE(testing::is_close(frames, blind->step(other, idle), testing::kComponentParity));
  EXPECT_FALSE(testing::is_close(frames, blind->step(stranger, idle), testing::kComponentParity));
  const auto far = World::from_pretrained(folder.path().string(), {.device = testing::far_device()});
  State there = far->begin(picture, 3);
  EXPECT_TRUE(testing::is_close(far->step(there, idle), frames, testing::kComponentParity));
}

}  // namespace
}  // namespace orrery::models

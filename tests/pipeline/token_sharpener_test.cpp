// Predict1's diffusion decoder, whole: see tests/golden/make_token_decoder.py.
#include "pipeline/token_sharpener.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "orrery/error.h"
#include "orrery/video.h"
#include "orrery/weights.h"
#include "support/compare.h"
#include "support/far_device.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery::pipeline {
namespace {

namespace fs = std::filesystem;
using testing::golden_folder;
using ::testing::HasSubstr;
using testing::is_close;
using ::testing::ThrowsMessage;

// As published: the network's folder, and the continuous tokenizer's beside it.
class TokenSharpenerTest : public ::testing::Test {
 protected:
  TokenSharpenerTest() {
    fs::copy(golden_folder() / "token_decoder/model", folder_ / "decoder");
    fs::create_directory_symlink(golden_folder() / "cv8x8x8_encode/model", folder_ / "Cosmos-Tokenize1-CV8x8x8-720p");
  }
  TokenSharpener load() const { return TokenSharpener((folder_ / "decoder").string(), {}); }
  TokenSharpener::Task task() const {
    return {.tokens = data_.at("tokens"), .frames = 33, .height = 32, .width = 48, .noise = data_.at("noise")};
  }

  testing::TemporaryFolder folder_;
  const TensorMap data_ = load_safetensors(golden_folder() / "token_decoder/sharpened.safetensors");
};

// Five latent frames in a window of eight, so that the tokens run back at its end.
TEST_F(TokenSharpenerTest, FramesAreThoseOfTheOriginalsLatents) {
  const auto vae = load_component((folder_ / "Cosmos-Tokenize1-CV8x8x8-720p").string(), "vae");
  const auto& codec = dynamic_cast<const Autoencoder&>(*vae);
  const at::Tensor expected = codec.decode(codec.normalization().undo(data_.at("latents"))).clamp(-1, 1).slice(2, 0, 33);
  EXPECT_TRUE(is_close(load().sharpen(task()), expected, testing::kPipelineParity));
}

TEST_F(TokenSharpenerTest, OnAnotherDeviceFramesAreTheSame) {
  const TokenSharpener far((folder_ / "decoder").string(), {.device = testing::far_device()});
  TokenSharpener::Task there = task();
  there.tokens = there.tokens.to(testing::far_device());
  there.noise = there.noise.to(testing::far_device());
  EXPECT_TRUE(is_close(far.sharpen(there).cpu(), load().sharpen(task()), testing::kSameMath));
}

TEST_F(TokenSharpenerTest, ALongClipIsSeveralWindowsAndTheNoiseFollowsTheSeed) {
  TokenSharpener::Task task{.tokens = at::arange(60).view({1, 10, 2, 3}), .frames = 73, .height = 32, .width = 48};
  int64_t total = 0;
  WorkOptions work;
  work.on_progress = [&](const Progress& progress) { total = progress.total; };
  const TokenSharpener sharpener = load();
  const at::Tensor first = sharpener.sharpen(task, work);
  EXPECT_EQ(first.sizes(), (std::vector<int64_t>{1, 3, 73, 32, 48}));
  EXPECT_EQ(total, 2 * 15);
  task.seed = 1;
  EXPECT_FALSE(sharpener.sharpen(task).equal(first));
}

TEST_F(TokenSharpenerTest, ATokenThatDoesNotExistIsRefused) {
  TokenSharpener::Task wrong = task();
  wrong.tokens = wrong.tokens + 60;
  EXPECT_THAT([&] { load().sharpen(wrong); }, ThrowsMessage<Error>(HasSubstr("0 … 59")));
}

TEST_F(TokenSharpenerTest, AFolderOfAnotherKindIsRefused) {
  EXPECT_THAT([] { TokenSharpener((golden_folder() / "cv8x8x8_encode/model").string(), {}); },
              ThrowsMessage<Error>(HasSubstr("no diffusion decoder")));
}

TEST_F(TokenSharpenerTest, AWorldOfTokensIsSharpenedWhereOneIsGiven) {
  const fs::path worlds = golden_folder() / "token_worlds";
  const TensorMap given = load_safetensors(worlds / "in.safetensors");
  const auto pipeline = WorldModelPipeline::from_pretrained((worlds / "Cosmos-Predict1-4B").string(), {}, 0,
                                                            {.diffusion_decoder = (folder_ / "decoder").string()});
  const Generated future = pipeline.generate({.seen = to_input({given.at("pictures"), 25}), .seed = 3, .greedy = true});
  const at::Tensor expected = load().sharpen({.tokens = future.latents, .frames = 33, .height = 32, .width = 48, .seed = 3});
  EXPECT_TRUE(future.video.equal(expected));
}

TEST(BlendedTest, ClipsFadeIntoEachOther) {
  const at::Tensor zeros = at::zeros({1, 3, 5, 2, 2}), ones = at::ones({1, 3, 5, 2, 2});
  const at::Tensor whole = blended({zeros, ones}, 3).select(4, 0).select(3, 0).select(1, 0).squeeze(0);
  EXPECT_TRUE(whole.equal(at::tensor({0., 0., 0., 0.5, 1., 1., 1.}, at::kFloat)));
}

}  // namespace
}  // namespace orrery::pipeline

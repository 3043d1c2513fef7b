#include "weights/lora.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/temporary.h"
#include "weights/sources.h"

namespace orrery::weights_detail {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using Layouts = std::vector<std::map<std::string, std::string>>;

const Layouts kLayouts = {
    {{"blocks.0.attn.to_q.weight", "layers.0.q.weight"}, {"blocks.0.attn.to_q.bias", "layers.0.q.bias"}}};

std::shared_ptr<const TensorSource> base(at::ScalarType dtype = at::kFloat) {
  return in_memory({{"net.blocks.0.attn.to_q.weight", at::arange(12, at::kFloat).view({3, 4}).to(dtype)},
                    {"net.blocks.0.attn.to_q.bias", at::ones({3}).to(dtype)},
                    {"net.blocks.0.table", at::ones({1, 2, 3}).to(dtype)}},
                   "base.pt");
}

class LoraTest : public ::testing::Test {
 protected:
  // The tensor after merging a file with these keys.
  at::Tensor merged(const TensorMap& lora, const std::string& name = "net.blocks.0.attn.to_q.weight", double scale = 1,
                    at::ScalarType dtype = at::kFloat) {
    return merge(lora, scale, dtype)->read(name);
  }
  std::shared_ptr<const TensorSource> merge(const TensorMap& lora, double scale = 1, at::ScalarType dtype = at::kFloat) {
    const auto file = folder_.path() / "lora.safetensors";
    save_safetensors(file, lora);
    return merge_loras(base(dtype), {{file, scale, ""}}, kLayouts, "transformer");
  }
  std::string refusal(const TensorMap& lora) {
    return testing::error_of([&] { merge(lora); });
  }

  TemporaryFolder folder_;
  at::Tensor down_ = at::tensor({1.0F, 0.0F, 2.0F, -1.0F, 0.5F, 1.0F, 0.0F, 1.0F}).view({2, 4});
  at::Tensor up_ = at::tensor({1.0F, -2.0F, 0.5F, 1.0F, 0.0F, 3.0F}).view({3, 2});
  at::Tensor before_ = at::arange(12, at::kFloat).view({3, 4});
};

TEST_F(LoraTest, EveryToolsNamesMeanTheSameLayer) {
  const at::Tensor expected = before_ + at::mm(up_, down_);
  const std::vector<std::array<std::string, 2>> kKeys = {
      {"blocks.0.attn.to_q.lora_A.weight", "blocks.0.attn.to_q.lora_B.weight"},
      {"transformer.blocks.0.attn.to_q.lora_A.weight", "transformer.blocks.0.attn.to_q.lora_B.weight"},
      {"base_model.model.blocks.0.attn.to_q.lora_A.weight", "base_model.model.blocks.0.attn.to_q.lora_B.weight"},
      {"net.blocks.0.attn.to_q.lora_A.default.weight", "net.blocks.0.attn.to_q.lora_B.default.weight"},
      {"diffusion_model.layers.0.q.lora_down.weight", "diffusion_model.layers.0.q.lora_up.weight"},
      {"lora_unet_layers_0_q.lora_down.weight", "lora_unet_layers_0_q.lora_up.weight"},
      {"lora_unet_blocks_0_attn_to_q.lora_down.weight", "lora_unet_blocks_0_attn_to_q.lora_up.weight"},
      {"transformer.blocks.0.attn.to_q.lora.down.weight", "transformer.blocks.0.attn.to_q.lora.up.weight"}};
  for (const auto& [down, up] : kKeys)
    EXPECT_TRUE(testing::is_close(merged({{down, down_}, {up, up_}}), expected, testing::kSameMath)) << down;
}

TEST_F(LoraTest, AlphaOverRankAndTheUsersScaleMultiply) {
  const TensorMap lora = {{"layers.0.q.lora_down.weight", down_},
                          {"layers.0.q.lora_up.weight", up_},
                          {"layers.0.q.alpha", at::scalar_tensor(3.0)}};
  EXPECT_TRUE(testing::is_close(merged(lora, "net.blocks.0.attn.to_q.weight", 0.5), before_ + at::mm(up_, down_) * 0.75,
                                testing::kSameMath));
}

TEST_F(LoraTest, WholeDifferencesChangeWeightsBiasesAndTables) {
  const TensorMap lora = {{"layers.0.q.diff", at::full({3, 4}, 2.0F)},
                          {"layers.0.q.diff_b", at::full({3}, 3.0F)},
                          {"blocks.0.table.diff", at::full({1, 2, 3}, 4.0F)}};
  EXPECT_TRUE(testing::is_close(merged(lora), before_ + 2, testing::kSameMath));
  EXPECT_TRUE(testing::is_close(merged(lora, "net.blocks.0.attn.to_q.bias"), at::full({3}, 4.0F), testing::kSameMath));
  EXPECT_TRUE(testing::is_close(merged(lora, "net.blocks.0.table"), at::full({1, 2, 3}, 5.0F), testing::kSameMath));
}

TEST_F(LoraTest, HalfPrecisionStaysAndWhatIsNotTouchedIsTheFilesOwnMemory) {
  const auto stored = base(at::kBFloat16);
  const auto file = folder_.path() / "lora.safetensors";
  save_safetensors(file, {{"layers.0.q.lora_down.weight", down_}, {"layers.0.q.lora_up.weight", up_}});
  const auto after = merge_loras(stored, {{file, 1, ""}}, kLayouts, "transformer");
  EXPECT_EQ(after->read("net.blocks.0.attn.to_q.weight").scalar_type(), at::kBFloat16);
  EXPECT_EQ(after->read("net.blocks.0.table").data_ptr(), stored->read("net.blocks.0.table").data_ptr());
  EXPECT_TRUE(at::equal(stored->read("net.blocks.0.attn.to_q.weight").to(at::kFloat), before_))
      << "the file's own weight was changed";
}

TEST_F(LoraTest, Float8BecomesBfloat16WhereItIsTouched) {
  const auto after = merge({{"layers.0.q.diff", at::full({3, 4}, 0.5F)}}, 1, at::kFloat8_e4m3fn);
  EXPECT_EQ(after->infos().at("net.blocks.0.attn.to_q.weight").dtype, at::kBFloat16);
  EXPECT_TRUE(
      testing::is_close(after->read("net.blocks.0.attn.to_q.weight").to(at::kFloat), before_ + 0.5, testing::kSameMath));
}

TEST_F(LoraTest, Float8IsTakenTimesItsScaleFirst) {
  const auto file = folder_.path() / "lora.safetensors";
  save_safetensors(file, {{"layers.0.q.diff", at::full({3, 4}, 0.5F)}});
  const auto scaled = in_memory({{"net.blocks.0.attn.to_q.weight", before_.to(at::kFloat8_e4m3fn)},
                                 {"net.blocks.0.attn.to_q.scale_weight", at::tensor({2.0F})}},
                                "base.pt");
  EXPECT_TRUE(testing::is_close(
      merge_loras(scaled, {{file, 1, ""}}, kLayouts, "transformer")->read("net.blocks.0.attn.to_q.weight").to(at::kFloat),
      2 * before_ + 0.5, testing::kSameMath));
}

TEST_F(LoraTest, AKeyThatBelongsToNoLayerIsNamed) {
  const TensorMap lora = {{"layers.0.q.lora_down.weight", down_},
                          {"layers.0.q.lora_up.weight", up_},
                          {"layers.7.q.lora_down.weight", down_},
                          {"layers.7.q.lora_up.weight", up_}};
  EXPECT_THAT(refusal(lora), AllOf(HasSubstr("layers.7.q.lora_down.weight"), HasSubstr("is no layer of the model")));
}

TEST_F(LoraTest, ALoraOfAnotherModelIsSaidToBeOne) {
  EXPECT_THAT(refusal({{"unet.mid.q.lora_down.weight", down_}, {"unet.mid.q.lora_up.weight", up_}}),
              AllOf(HasSubstr("unet.mid.q.lora_down.weight"), HasSubstr("of another model")));
  EXPECT_THAT(refusal({{"layers.0.q.lora_down.weight", at::ones({2, 5})}, {"layers.0.q.lora_up.weight", up_}}),
              AllOf(HasSubstr("[3, 4]"), HasSubstr("[3, 5]"), HasSubstr("another size")));
}

TEST_F(LoraTest, HalvesAndOtherKindsAreRefusedByName) {
  EXPECT_THAT(refusal({{"layers.0.q.lora_down.weight", down_}}), HasSubstr("lacks its counterpart"));
  EXPECT_THAT(refusal({{"layers.0.q.hada_w1_a", down_}}),
              AllOf(HasSubstr("layers.0.q.hada_w1_a"), HasSubstr("cannot be merged")));
  EXPECT_THAT(refusal({{"layers.0.q.lora_down.weight", down_},
                       {"layers.0.q.lora_up.weight", up_},
                       {"layers.0.q.dora_scale", at::ones({1, 4})}}),
              HasSubstr("another axis"));
  EXPECT_THAT(refusal({{"layers.0.q.weight", down_}}),
              AllOf(HasSubstr("layers.0.q.weight"), HasSubstr("no part of a LoRA")));
}

TEST_F(LoraTest, ACheckpointSavedWithItsAdaptersIsTheNetworkTheyMake) {
  const auto file = folder_.path() / "post_trained.safetensors";
  save_safetensors(file, {{"net.q.base_layer.weight", before_},
                          {"net.q.base_layer.bias", at::ones({3})},
                          {"net.q.lora_A.default.weight", down_},
                          {"net.q.lora_B.default.weight", up_},
                          {"net.norm.weight", at::ones({4})}});
  const Weights weights = Weights::open(file);
  EXPECT_THAT(weights.names(), ::testing::ElementsAre("norm.weight", "q.bias", "q.weight"));
  EXPECT_TRUE(testing::is_close(weights.get("q.weight", {3, 4}), before_ + at::mm(up_, down_), testing::kSameMath));
  save_safetensors(file, {{"net.q.base_layer.weight", before_}, {"net.q.lora_A.default.weight", down_}});
  EXPECT_THROW(Weights::open(file), Error);
}

TEST_F(LoraTest, AnExpertsKeysGoToThatExpert) {
  const TensorMap lora = {{"transformer.layers.0.q.diff", at::full({3, 4}, 1.0F)},
                          {"transformer_2.layers.0.q.diff", at::full({3, 4}, 10.0F)}};
  const auto file = folder_.path() / "both.safetensors";
  save_safetensors(file, lora);
  const std::string name = "net.blocks.0.attn.to_q.weight";
  for (const auto& [component, change] : {std::pair{"transformer", 1.0}, {"transformer_2", 10.0}})
    EXPECT_TRUE(testing::is_close(merge_loras(base(), {{file, 1, ""}}, kLayouts, component)->read(name), before_ + change,
                                  testing::kSameMath))
        << component;
  EXPECT_TRUE(at::equal(merge_loras(base(), {{file, 1, "transformer_2"}}, kLayouts, "transformer")->read(name), before_));
}

}  // namespace
}  // namespace orrery::weights_detail

#include "text/t5_encoder_model.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/weights.h"
#include "support/compare.h"

namespace orrery::text {
namespace {

constexpr int64_t kVocabulary = 11, kWidth = 12, kHeads = 3, kHeadDim = 5, kInner = 17, kLayers = 2;

T5EncoderModel tiny_encoder(const char* model_type) {
  at::manual_seed(5);
  const auto random = [](at::IntArrayRef shape) { return at::randn(shape) * 0.5; };
  TensorMap tensors{{"shared.weight", random({kVocabulary, kWidth})}, {"encoder.final_layer_norm.weight", random({kWidth})}};
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string block = "encoder.block." + std::to_string(i) + ".layer.";
    const std::string attention = block + "0.SelfAttention.", dense = block + "1.DenseReluDense.";
    tensors[block + "0.layer_norm.weight"] = random({kWidth});
    tensors[block + "1.layer_norm.weight"] = random({kWidth});
    for (const char* name : {"q", "k", "v"}) tensors[attention + name + ".weight"] = random({kHeads * kHeadDim, kWidth});
    tensors[attention + "o.weight"] = random({kWidth, kHeads * kHeadDim});
    tensors[attention + "relative_attention_bias.weight"] = random({8, kHeads});
    tensors[dense + "wi.weight"] = random({kInner, kWidth});
    tensors[dense + "wo.weight"] = random({kWidth, kInner});
  }
  const Config config =
      Config::parse(R"({"d_model": 12, "d_kv": 5, "num_heads": 3, "d_ff": 17, "num_layers": 2, "vocab_size": 11,
      "relative_attention_num_buckets": 8, "relative_attention_max_distance": 9})",
                    "tiny")
          .with("model_type", std::string(model_type));
  return T5EncoderModel(config, Weights::from(std::move(tensors), "tiny"));
}

// Ids whose last `padding` are masked zeros, one row of the batch shorter by one still.
std::pair<at::Tensor, at::Tensor> padded(int64_t length, int64_t padding) {
  at::Tensor ids = at::randint(1, kVocabulary, {2, length}, at::kLong), mask = at::ones({2, length}, at::kLong);
  ids.narrow(1, length - padding, padding).zero_();
  mask.narrow(1, length - padding, padding).zero_();
  mask[1][length - padding - 1] = 0;
  ids[1][length - padding - 1] = 0;
  return {ids, mask};
}

TEST(T5EncoderModel, PaddingThatAllLooksAlikeIsComputedOnceAndEqualsTheWhole) {
  for (const char* type : {"t5", "umt5"}) {
    const T5EncoderModel encoder = tiny_encoder(type);
    const auto [ids, mask] = padded(/*length=*/31, /*padding=*/26);
    // Another word in the last, masked place: nobody looks at it, but all padding must be computed now.
    at::Tensor other = ids.clone();
    other.select(1, 30).fill_(7);
    const at::Tensor shortened = encoder.forward(ids, mask), whole = encoder.forward(other, mask);
    EXPECT_TRUE(testing::is_close(shortened.narrow(1, 0, 30), whole.narrow(1, 0, 30), testing::kSameMath)) << type;
    EXPECT_GT(testing::relative_l2(shortened.select(1, 6), shortened.select(1, 30)), 1e-3) << "nearer padding differs";
  }
}

TEST(T5EncoderModel, ARowThatSeesNothingIsComputedWhole) {
  const T5EncoderModel encoder = tiny_encoder("t5");
  auto [ids, mask] = padded(31, 26);
  mask[1].zero_();
  at::Tensor other = ids.clone();
  other.select(1, 30).fill_(7);
  EXPECT_GT(testing::relative_l2(encoder.forward(other, mask)[1][0], encoder.forward(ids, mask)[1][0]), 1e-3)
      << "where all is masked the reference looks at everything alike, the last word too";
}

}  // namespace
}  // namespace orrery::text

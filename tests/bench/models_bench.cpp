// One pass of each kind of network at published widths with random bfloat16 weights, one of its equal blocks where it has
// many; 768 tokens or nine frames of 256x256 where the model lets choose. A new model is a new row.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include <memory>
#include <string>

#include "models/registry.h"
#include "tests/support/random_weights.h"

namespace orrery::bench {
namespace {

struct Model {
  const char *name, *class_name, *config, *function;
  TensorMap (*inputs)();
};

TensorMap text(int64_t tokens) {
  return {{"input_ids", at::randint(2, 30000, {1, tokens}, at::kLong)}};
}
TensorMap decoded(at::IntArrayRef shape) {
  return {{"latent", at::randn(shape)}};
}
TensorMap encoded(at::IntArrayRef shape) {
  return {{"sample", at::rand(shape) * 2 - 1}};
}

const Model kModels[] = {
    {"wan21_vae_decode", "AutoencoderKLWan", "{}", "decode",
     [] {
       return decoded({1, 16, 3, 32, 32});
     }},
    {"wan21_vae_encode", "AutoencoderKLWan", "{}", "encode",
     [] {
       return encoded({1, 3, 9, 256, 256});
     }},
    {"cv8x8x8_decode", "AutoencoderKLCosmos", "{}", "decode",
     [] {
       return decoded({1, 16, 2, 32, 32});
     }},
    {"cv8x8x8_encode", "AutoencoderKLCosmos", "{}", "encode",
     [] {
       return encoded({1, 3, 9, 256, 256});
     }},
    {"oasis_vae_decode", "OasisAutoencoderKL", R"({"enc_depth": 1, "dec_depth": 1})", "decode",
     [] {
       return decoded({1, 16, 1, 18, 32});
     }},
    {"wan_1.3b", "WanTransformer3DModel", R"({"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 1})", "forward",
     [] {
       return TensorMap{{"hidden_states", at::randn({1, 16, 3, 32, 32})},
                        {"timestep", at::full({1}, 500.0)},
                        {"encoder_hidden_states", at::randn({1, 512, 4096})}};
     }},
    {"predict2_2b", "CosmosTransformer3DModel",
     R"({"num_attention_heads": 16, "num_layers": 1, "extra_pos_embed_type": null, "rope_scale": [1.0, 4.0, 4.0]})",
     "forward",
     [] {
       return TensorMap{{"hidden_states", at::randn({1, 16, 3, 32, 32})},
                        {"timestep", at::full({1}, 0.5)},
                        {"encoder_hidden_states", at::randn({1, 512, 1024})}};
     }},
    {"oasis", "DiT", R"({"depth": 1})", "forward",
     [] {
       return TensorMap{{"x", at::randn({1, 2, 16, 18, 32})},
                        {"t", at::full({1, 2}, 100, at::kLong)},
                        {"external_cond", at::zeros({1, 2, 25})}};
     }},
    {"predict1_4b_prefill", "Transformer",
     R"({"dim": 4096, "n_layers": 1, "n_heads": 32, "n_kv_heads": 8, "head_dim": 128, "ffn_hidden_size": 14336, "vocab_size": 64000,
         "use_qk_normalization": true, "rope_dim": "3D", "video_latent_shape": [5, 40, 64], "max_seq_len": 12800})",
     "logits", [] { return text(256); }},
    {"genie", "STMaskGIT",
     R"({"num_layers": 1, "num_heads": 8, "d_model": 512, "T": 16, "S": 256, "image_vocab_size": 262144, "num_factored_vocabs": 2})",
     "logits", [] { return text(16 * 256); }},
    {"t5_11b", "T5EncoderModel", R"({"d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_heads": 128, "num_layers": 1})",
     "forward", [] { return text(512); }},
    {"umt5_xxl", "UMT5EncoderModel",
     R"({"model_type": "umt5", "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64, "num_layers": 1, "vocab_size": 256384,
         "feed_forward_proj": "gated-gelu"})",
     "forward", [] { return text(512); }},
    {"clip_vit_h", "CLIPVisionModel",
     R"({"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 16, "num_hidden_layers": 1, "patch_size": 14,
         "hidden_act": "gelu"})",
     "forward",
     [] {
       return TensorMap{{"pixel_values", at::randn({1, 3, 224, 224})}};
     }},
};

void run(benchmark::State& state, const Model& model) {
  const c10::InferenceMode inference;
  static std::pair<const Model*, std::unique_ptr<Component>> last;  // the library calls this several times
  if (last.first != &model) {
    last.second.reset();
    const Config config = Config::parse(model.config, model.name).with("_class_name", std::string(model.class_name));
    const Weights weights =
        Weights::from(testing::random_weights(model.class_name, config), "random").to(at::kFloat, at::kCPU);
    last = {&model, models::entry_of(model.class_name, "").build(config, weights)};
  }
  const TensorMap inputs = model.inputs();
  for (auto _ : state) benchmark::DoNotOptimize(last.second->call(model.function, inputs, {}));
}

const bool added = [] {
  for (const Model& model : kModels)
    benchmark::RegisterBenchmark((std::string("model/") + model.name).c_str(),
                                 [&model](benchmark::State& state) { run(state, model); })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  return true;
}();

}  // namespace
}  // namespace orrery::bench

#include <ATen/ATen.h>

#include <string>

#include "models/wan/causal_wan_stream.h"
#include "models/wan/wan_recipe.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

// Text to video, block after block: what the network makes does not depend on how long the video will be.
class CausalWanRecipe final : public DiffusionRecipe {
 public:
  explicit CausalWanRecipe(const DiffusionParts& parts) : codec_(parts.codec), stream_(network(parts)) {}

  std::string form() const override { return "CausalInferencePipeline"; }
  GuidanceForm guidance_form() const override { return GuidanceForm::kFromNegative; }

  void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const override {
    const int64_t frames = codec_.latent_frames(num_frames), block = stream_.model().frames_per_block();
    if (frames % block != 0)
      throw Error(ErrorKind::kArgument,
                  {.place = "frames",
                   .what = "do not fill the network's blocks",
                   .expected = frames < block ? std::to_string(codec_.pixel_frames(block))
                                              : std::to_string(codec_.pixel_frames(frames / block * block)) + " or " +
                                                    std::to_string(codec_.pixel_frames((frames / block + 1) * block)),
                   .got = std::to_string(num_frames)});
    check_multiple(height, width, codec_.spatial_stride * stream_.model().sizes().patch_size[1]);
    if (known_frames > 0)
      throw Error(ErrorKind::kArgument,
                  {.place = "CausalInferencePipeline", .what = "takes no picture or video", .hint = "leave it out"});
  }

  at::Tensor conditioning_clip(const at::Tensor& seen, int64_t) const override { return seen; }
  int64_t latent_channels() const override { return codec_.latent_channels; }
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    return embed_masked(tokenizer, text_encoder, collapse_white_space(prompt), stream_.model().text_len(), cut);
  }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs&) const override { return nullptr; }

  bool makes_pieces() const override { return true; }
  at::Tensor make_pieces(const DiffusionInputs& inputs, const NoiseDraws& noise, const PieceProgress& tell) const override {
    if (inputs.guidance_scale > 1)
      throw Error(ErrorKind::kArgument, {.place = "guidance_scale",
                                         .what = "cannot be used: this network was distilled with its guidance inside",
                                         .expected = "1",
                                         .got = std::to_string(inputs.guidance_scale)});
    const auto context = stream_.model().prepare(inputs.conditions.text, {});
    const int64_t block = stream_.model().frames_per_block(), count = inputs.shape[2] / block;
    CausalWanMemory memory;
    std::vector<at::Tensor> pieces;
    for (int64_t i = 0; i < count; ++i) {
      const auto draws = [&](int64_t draw) { return noise(draw).narrow(2, i * block, block).contiguous(); };
      pieces.push_back(stream_.next(*context, {}, {}, draws, memory));
      tell(i + 1, count);
    }
    return at::cat(pieces, 2);
  }

 private:
  static std::shared_ptr<const CausalWanModel> network(const DiffusionParts& parts) {
    const auto found = parts.components.find("transformer");
    auto model = found == parts.components.end() ? nullptr : std::dynamic_pointer_cast<const CausalWanModel>(found->second);
    if (!model) throw Error(ErrorKind::kConfig, {.place = parts.index.place(), .what = "names no causal network"});
    if (model->sizes().text_dim == 0)
      throw Error(ErrorKind::kUnsupported, {.place = parts.index.place(),
                                            .what = "is driven by actions, not by a prompt",
                                            .hint = "use `orrery rollout` or `orrery play`"});
    return model;
  }

  CodecSpec codec_;
  CausalWanStream stream_;
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_causal_wan_recipe(const DiffusionParts& parts) {
  return std::make_unique<CausalWanRecipe>(parts);
}

}  // namespace orrery::models

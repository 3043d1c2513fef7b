#include <ATen/ATen.h>

#include <vector>

#include "guarded.h"
#include "orrery/error.h"
#include "orrery/pipeline.h"
#include "pipeline/decoding.h"
#include "pipeline/generator.h"

namespace orrery {

WorldModelPipeline::WorldModelPipeline(std::unique_ptr<const pipeline::Generator> generator)
    : generator_(std::move(generator)) {}
WorldModelPipeline::~WorldModelPipeline() = default;
WorldModelPipeline::WorldModelPipeline(WorldModelPipeline&&) noexcept = default;
WorldModelPipeline& WorldModelPipeline::operator=(WorldModelPipeline&&) noexcept = default;

WorldModelPipeline WorldModelPipeline::from_pretrained(const std::string& path, const LoadOptions& options,
                                                       int64_t max_memory, const TokenWorldOptions& tokens) {
  return guarded(path, [&] {
    const ModelDescription model = describe_model(path, options.work);
    if (pipeline::is_of_tokens(model)) {
      if (max_memory > 0)
        throw Error(ErrorKind::kUnsupported, {.place = "max memory",
                                              .what = "cannot be set for a world of tokens: each token reads all weights",
                                              .hint = "--weights int8 makes them smaller"});
      return WorldModelPipeline(pipeline::load_tokens(model, options, tokens));
    }
    if (!tokens.video_tokenizer.empty() || !tokens.diffusion_decoder.empty())
      throw Error(ErrorKind::kArgument,
                  {.place = "tokenizer or diffusion decoder", .what = "is for worlds of tokens, and this is none"});
    return WorldModelPipeline(pipeline::load_diffusion(model, options, max_memory));
  });
}

const std::string& WorldModelPipeline::class_name() const {
  return generator_->class_name();
}
GenerationDefaults WorldModelPipeline::defaults(Compat compat, const std::string& preset) const {
  return generator_->defaults(compat, preset);
}
InputRules WorldModelPipeline::input_rules() const {
  return generator_->input_rules();
}
std::shared_ptr<const Autoencoder> WorldModelPipeline::autoencoder() const {
  return generator_->autoencoder();
}

at::Tensor WorldModelPipeline::embed_prompt(const std::string& prompt, const WorkOptions& work) const {
  return guarded(class_name(), [&] { return generator_->embed_prompt(prompt, work).cpu(); });
}

Generated WorldModelPipeline::generate_latents(const GenerateOptions& options) const {
  return guarded(class_name(), [&] { return generator_->generate_latents(options); });
}

void WorldModelPipeline::decode(const Generated& generated, const FrameSink& sink, const WorkOptions& work) const {
  guarded(class_name() + ": decode", [&] {
    const Guardrails none;
    pipeline::FrameStream stream(sink, none, generated.overlap, generated.num_frames > 0 ? generated.num_frames : INT64_MAX);
    const std::vector<Latents> alone = {generated.normalized};
    for (const Latents& window : generated.windows.empty() ? alone : generated.windows) {
      stream.begin_window();
      pipeline::decode_window(
          *autoencoder(), window.video, [&](const at::Tensor& frames) { stream.write(frames); }, work);
    }
  });
}

at::Tensor WorldModelPipeline::decode(const Generated& generated, const WorkOptions& work) const {
  std::vector<at::Tensor> frames;
  decode(
      generated, [&](const at::Tensor& part) { frames.push_back(part); }, work);
  return at::cat(frames, 2);
}

Generated WorldModelPipeline::generate(const GenerateOptions& options, const FrameSink& sink) const {
  return guarded(class_name(), [&] { return generator_->generate(options, sink); });
}

Generated WorldModelPipeline::generate(const GenerateOptions& options) const {
  std::vector<at::Tensor> frames;
  Generated out = generate(options, [&](const at::Tensor& part) { frames.push_back(part); });
  out.video = at::cat(frames, 2);
  return out;
}

}  // namespace orrery

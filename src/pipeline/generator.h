#pragma once

#include <memory>
#include <string>
#include <utility>

#include "orrery/error.h"
#include "orrery/pipeline.h"

namespace orrery::pipeline {

/// What stands behind a WorldModelPipeline: one way of making futures, loaded. Const. Throws as WorldModelPipeline does.
class Generator {
 public:
  virtual ~Generator() = default;
  const std::string& class_name() const { return class_name_; }
  std::shared_ptr<const Autoencoder> autoencoder() const { return autoencoder_; }

  virtual GenerationDefaults defaults(Compat compat, const std::string& preset) const = 0;
  virtual InputRules input_rules() const { return {}; }
  virtual at::Tensor embed_prompt(const std::string&, const WorkOptions&) const {
    throw Error(ErrorKind::kUnsupported, {.place = class_name_, .what = "embeds no prompt for later use"});
  }
  virtual Generated generate_latents(const GenerateOptions& options) const = 0;
  virtual Generated generate(const GenerateOptions& options, const FrameSink& sink) const = 0;

 protected:
  explicit Generator(std::string class_name) : class_name_(std::move(class_name)) {}

  std::string class_name_;
  std::shared_ptr<const Autoencoder> autoencoder_;
};

/// Futures that are denoised. Latents of several windows.
std::unique_ptr<const Generator> load_diffusion(const ModelDescription& model, const LoadOptions& options,
                                                int64_t max_memory);
/// Futures that are drawn token by token, or frame by frame.
std::unique_ptr<const Generator> load_tokens(const ModelDescription& model, const LoadOptions& options,
                                             const TokenWorldOptions& tokens);
/// Whether a model's future is one of tokens.
bool is_of_tokens(const ModelDescription& model);

}  // namespace orrery::pipeline

// Where the frames of a future go as they are decoded, what is shown on the way, and what is kept when the work stops half
// way.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/media.h"
#include "orrery/pipeline.h"
#include "orrery/preview.h"
#include "orrery/tokenizer.h"

namespace program {

/// Writes frames as they come: a video chunk by chunk, or `video` and `latents` of a .safetensors file at the end.
class FutureOutput {
 public:
  FutureOutput(std::filesystem::path path, double fps);
  /// float [1,3,T,H,W] in [-1,1].
  void write(const at::Tensor& frames);
  /// Gives the file its name. `latents` are stored beside the pixels where the file can hold them.
  void finish(const orrery::Generated& future, const std::string& class_name, bool picture);
  int64_t frames() const { return frames_; }
  int64_t height() const { return height_; }  ///< of the frames that came
  int64_t width() const { return width_; }

 private:
  std::filesystem::path path_;
  double fps_;
  int64_t frames_ = 0, height_ = 0, width_ = 0;
  std::optional<orrery::VideoWriter> writer_;
  std::vector<at::Tensor> parts_;
};

/// Latents outlive a decoding that fails or is interrupted: writes them beside the output, for `orrery decode` to finish
/// from.
void keep_latents(const std::filesystem::path& output, const orrery::Generated& future,
                  const orrery::Autoencoder& autoencoder);

/// Shows every k-th step as a small picture or clip beside the output, through a tiny decoder or a linear map.
class Previews {
 public:
  /// `decoder`: folder or file of a tokenizer that decodes the same latents; empty: the linear map.
  Previews(int64_t every, const std::string& decoder, const std::filesystem::path& output,
           const orrery::WorldModelPipeline& pipeline);
  void operator()(const orrery::StepReport& report);

 private:
  int64_t every_;
  std::filesystem::path path_;
  std::optional<orrery::Tokenizer> decoder_;
  std::optional<orrery::LatentPreview> map_;
};

}  // namespace program

#include "future_output.h"

#include <ATen/ops/cat.h>

#include <cstdio>
#include <utility>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "program.h"

namespace program {

namespace fs = std::filesystem;

FutureOutput::FutureOutput(fs::path path, double fps) : path_(std::move(path)), fps_(fps) {
  if (path_.extension() != ".safetensors") writer_.emplace(path_, orrery::WriteOptions{.fps = fps});
}

void FutureOutput::write(const at::Tensor& frames) {
  frames_ += frames.size(2);
  height_ = frames.size(3);
  width_ = frames.size(4);
  if (writer_)
    writer_->write(orrery::to_video(frames, fps_).frames);
  else
    parts_.push_back(frames);
}

void FutureOutput::finish(const orrery::Generated& future, const std::string& class_name, bool picture) {
  if (writer_) return writer_->finish();
  // The reference's picture pipelines give their latents without a time axis.
  orrery::TensorMap tensors = {{"video", at::cat(parts_, 2)},
                               {"latents", picture ? future.latents.squeeze(2) : future.latents}};
  if (future.new_tokens > 0) tensors["indices"] = future.latents.to(at::kInt);  // the name that `orrery decode` knows
  orrery::save_safetensors(path_, tensors, {{"class", class_name}, {"fps", std::to_string(fps_)}});
}

void keep_latents(const fs::path& output, const orrery::Generated& future, const orrery::Autoencoder& autoencoder) {
  const fs::path kept = fs::path(output).concat(".latents.safetensors");
  orrery::TensorMap tensors;
  for (size_t i = 0; i < future.windows.size(); ++i) {
    const at::Tensor& window = future.windows[i].video;
    const bool indices = !window.is_floating_point();
    const std::string name = indices ? "indices" : "latent";
    tensors[i == 0 ? name : name + "." + std::to_string(i)] =
        indices ? window.to(at::kInt) : autoencoder.normalization().undo(window);
  }
  orrery::save_safetensors(kept, tensors,
                           {{"class", autoencoder.class_name()},
                            {"fps", std::to_string(future.fps)},
                            {"frames", std::to_string(future.num_frames)},
                            {"overlap", std::to_string(future.overlap)}});
  std::fprintf(stderr, "the latents are kept in %s; `orrery decode --tokens` finishes from there\n", kept.c_str());
}

Previews::Previews(int64_t every, const std::string& decoder, const fs::path& output,
                   const orrery::WorldModelPipeline& pipeline)
    : every_(every), path_(fs::path(output).replace_extension().concat(".preview.gif")) {
  if (decoder.empty())
    map_.emplace(*pipeline.autoencoder());
  else
    decoder_ = orrery::Tokenizer::from_pretrained(decoder);
  if (!decoder_) return;
  // Now, and not when hours of steps are behind.
  const int64_t own = pipeline.autoencoder()->spec().latent_channels, its = decoder_->autoencoder().spec().latent_channels;
  if (its != own)
    throw orrery::Error(orrery::ErrorKind::kArgument, {.place = "--preview-decoder " + decoder,
                                                       .what = "knows other latents than this model",
                                                       .expected = std::to_string(own) + " channels",
                                                       .got = std::to_string(its),
                                                       .hint = "leave it out: a linear map shows them too"});
}

void Previews::operator()(const orrery::StepReport& report) {
  if ((report.step + 1) % every_ != 0) return;
  const orrery::Video video = decoder_ ? decoder_->decode(report.predicted) : (*map_)(report.predicted);
  orrery::write_video(path_, video);
  std::fprintf(stderr, "step %lld of %lld: %s\n", static_cast<long long>(report.step + 1),
               static_cast<long long>(report.steps), path_.c_str());
}

}  // namespace program

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "orrery/pipeline.h"
#include "pipeline/parts.h"
#include "sampling/schedule.h"

namespace orrery::pipeline {

/// One future being imagined: prompts embedded once, then window after window of latents.
class Future {
 public:
  /// Checks sizes and embeds the prompts. `windows` of `num_frames` each; `seen` float [1,3,K,H,W] is what the first goes on
  /// from, undefined for none. Throws Error(kArgument) on what does not fit.
  Future(const Parts& parts, const GenerateOptions& options, int64_t num_frames, int64_t windows, const at::Tensor& seen);

  /// The latents of the next window, whose first frame is frame `first` of the future and which goes on from `seen`;
  /// appended to out.windows, and their times added.
  void imagine(const at::Tensor& seen, int64_t first, Generated& out);

 private:
  void make_schedule();
  void embed_prompts();
  void encode(const at::Tensor& seen, int64_t first, Generated& out);
  at::Tensor embed_pictures(const at::Tensor& seen) const;
  at::Tensor first_sample() const;
  at::Tensor draw(int64_t k) const;
  void imagine_pieces(Generated& out);
  void deliver(Generated& out);

  const Parts& parts_;
  const GenerateOptions& options_;
  const models::Preset& preset_;
  int64_t num_frames_, windows_, window_ = 0;
  double text_seconds_ = 0;
  DiffusionInputs inputs_;
  Config scheduler_;
  sampling::Schedule schedule_;
  std::unique_ptr<DiffusionRun> run_;
};

/// The last frames of what the caller has seen: as many as asked for, or as the model can use; undefined where nothing was
/// seen.
at::Tensor frames_to_go_on_from(const GenerateOptions& options, const DiffusionRecipe& recipe);

}  // namespace orrery::pipeline

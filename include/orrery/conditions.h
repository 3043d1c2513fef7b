#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "orrery/export.h"

namespace orrery {

/// A picture-shaped signal that steers a generation (edges, depth, segmentation, …), already encoded.
struct Control {
  std::string kind;   ///< "edge", "depth", "seg", "vis", …
  at::Tensor video;   ///< float [B,C,t,h,w], latents of the control video
  at::Tensor mask;    ///< float [B,1,t,h,w] in [0,1], where it counts; undefined: everywhere
  double weight = 1;  ///< how much it counts
};

/// What a future is made to follow, by meaning. Every tensor is optional (undefined); a model rejects what it needs and lacks,
/// and what it is given and cannot use.
struct Conditions {
  at::Tensor text;        ///< float [B,L,D], embeddings of the prompt
  at::Tensor text_mask;   ///< bool [B,L], true where `text` counts; undefined: everywhere
  at::Tensor image;       ///< float [B,L',D'], embedding of a picture
  at::Tensor actions;     ///< float [B,T,A], one row for each frame, in the model's own normalisation
  at::Tensor camera;      ///< float [B,T,…], camera poses
  at::Tensor known;       ///< float [B,C,t,h,w], latents that are given (zero where they are not)
  at::Tensor known_mask;  ///< float [B,1,t,h,w], 1 where `known` is given
  std::vector<Control> controls;
  double fps = 0;  ///< frames a second of the future; 0: the model is not told
};

}  // namespace orrery

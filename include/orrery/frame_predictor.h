#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "orrery/component.h"
#include "orrery/export.h"
#include "orrery/token_predictor.h"

namespace orrery {

/// How the tokens of a frame are chosen when all of them are guessed at once and the frame is looked at a few times.
struct FrameSampling {
  int64_t steps = 1;          ///< looks at a frame, above 0; each settles a part of its tokens
  double temperature = 1;     ///< divides the logits, above 0
  bool greedy = false;        ///< always the most likely token
  uint64_t seed = 0;          ///< of the draws, each of which depends on (seed, frame, look, place) and on nothing else
  at::Tensor settling_order;  ///< float [steps − 1, h·w]: replaces the random numbers by which the settled places are chosen
};

/// What a masked-token family writes: the future as discrete tokens, frame by frame.
class ORRERY_API FramePredictor : public Component {
 public:
  /// The frames so far, as the network remembers them. A family derives its own. One thread at a time; a fork shares memory.
  struct ORRERY_API Context {
    virtual ~Context();
    virtual int64_t frames() const = 0;
    virtual std::unique_ptr<Context> fork() const = 0;
  };

  /// Number of different tokens that a place can have.
  virtual int64_t vocabulary() const = 0;
  /// How videos are made with it.
  virtual TokenVideoRules video_rules() const = 0;
  /// An empty context of B sequences.
  virtual std::unique_ptr<Context> prepare(int64_t batch) const = 0;
  /// Reads known frames int64 [B,t,h,w] after those of the context. Throws Error(kArgument) when there is no room.
  virtual void observe(const at::Tensor& frames, Context& context) const = 0;
  /// Guesses the frame after those of the context, int64 [B,1,h,w], and reads it.
  virtual at::Tensor imagine(const FrameSampling& sampling, Context& context) const = 0;

  /// The tokenizer's indices as this network counts them, and back.
  virtual at::Tensor from_codec(const at::Tensor& indices) const { return indices; }
  virtual at::Tensor to_codec(const at::Tensor& tokens) const { return tokens; }
};

}  // namespace orrery

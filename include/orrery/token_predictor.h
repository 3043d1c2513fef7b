#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orrery/component.h"
#include "orrery/conditions.h"
#include "orrery/export.h"

namespace orrery {

/// How the original repository makes videos with a model of tokens.
struct TokenVideoRules {
  std::vector<int64_t> grid;                   ///< t, h, w: latent frames of a whole clip, and their rows and columns
  std::vector<int64_t> known_latents;          ///< how many latent frames a future can go on from, rising
  int64_t usual_known = 0;                     ///< how many of these at most where nobody says; 0: all there are
  double temperature = 1, top_p = 1;           ///< the values its examples are made with
  double fps = 25;                             ///< at which it writes videos
  int64_t steps = 0;                           ///< looks at a frame, of models that guess a whole frame at once; else 0
  int64_t text_tokens = 0;                     ///< length of the prompt's embedding; 0: the model takes no text
  std::vector<std::string> tokenizer_folders;  ///< published beside the checkpoint: folders that may hold the tokenizer
  std::vector<std::string> text_folders;       ///< folders that may hold the text encoder and its words
};

/// What an autoregressive family writes: the future as discrete tokens, one after another.
class ORRERY_API TokenPredictor : public Component {
 public:
  /// One batch of sequences being continued: keys and values of the tokens so far, and all that does not depend on them
  /// (cross-attention keys and values of the text). A family derives its own. One thread at a time.
  struct ORRERY_API Context {
    virtual ~Context();
    /// The tokens that come next were drawn from this predictor's logits, so they exist: logits() need not look at them,
    /// which on a device makes the host wait.
    bool drawn = false;
    /// Tokens that the network has seen.
    virtual int64_t length() const = 0;
    /// Another future of the same past. Shares the memory of the past; costs at most one page of keys and values a layer.
    virtual std::unique_ptr<Context> fork() const = 0;
    /// Rows int64 [B'] of the batch, in that order and as often as they are named. The rows of a batch of one share the
    /// memory of its past.
    virtual std::unique_ptr<Context> select(const at::Tensor& rows) const = 0;
  };

  /// Number of different tokens that can follow.
  virtual int64_t vocabulary() const = 0;
  /// Most tokens that a sequence can have.
  virtual int64_t capacity() const = 0;
  /// The token that a sequence begins with where the model wants one (text-conditioned models), else -1.
  virtual int64_t begin_token() const { return -1; }

  /// How videos are made with it; an empty grid where its tokens are no video's.
  virtual TokenVideoRules video_rules() const { return {}; }

  /// An empty context. `conditions.text` is what a text-conditioned model needs, float [B,L,D]; others refuse it. Throws
  /// Error(kArgument) naming what is needed and lacks, or what is given and cannot be used.
  virtual std::unique_ptr<Context> prepare(const Conditions& conditions) const = 0;

  /// Appends tokens int64 [B,n] to the sequences and returns the logits of what follows each: float [B,n,V], or [B,1,V],
  /// those of the last token, with `last_only`. Throws Error(kArgument) when there is no room, or a token does not exist.
  virtual at::Tensor logits(const at::Tensor& tokens, Context& context, bool last_only = false) const = 0;

  /// "logits" with the names of the contract: input_ids, encoder_hidden_states → logits. `streaming` tokens at a time.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const final;
};

/// Throws Error(kArgument) unless `function` is "logits", the one that networks of tokens have.
ORRERY_API void require_logits_function(const std::string& function, const std::string& class_name);

}  // namespace orrery

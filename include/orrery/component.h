#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/export.h"
#include "orrery/weights.h"

namespace orrery {

struct ComponentDescription;  ///< orrery/load.h
struct LoadOptions;           ///< orrery/tokenizer.h

/// How a component is run by name, from the command line and from tests.
struct CallOptions {
  int64_t streaming = 0;     ///< feed so many frames (or latents) at a time; 0: all at once
  bool all_layers = false;   ///< text encoders: return every layer's hidden states
  std::vector<std::string> texts;     ///< text tokenizers: what to encode, one row of the batch each
  std::optional<int64_t> max_length;  ///< text tokenizers: truncate and pad to so many ids; without it, pad to the longest
};

/// One part of a pipeline, loaded and const: a tokenizer's autoencoder, a transformer, a text encoder.
/// What it does in a program is said by the interface it also implements (Autoencoder, Denoiser, …); call() is the
/// same work with tensors by their reference names, so that any two implementations can be compared from outside.
class ORRERY_API Component {
 public:
  virtual ~Component();
  /// The reference's class name, e.g. "AutoencoderKLWan".
  virtual std::string class_name() const = 0;
  /// Runs `function` ("encode", "decode", "forward", "logits") once. Input and output names are those of docs/contract.
  /// Throws Error(kArgument) naming the functions it has, or the inputs it needs and lacks.
  virtual TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const = 0;
  /// Where it was loaded to run: what it is given must lie there.
  at::Device device() const { return device_; }

 private:
  friend std::unique_ptr<Component> load_component(const ComponentDescription& description, const LoadOptions& options);
  at::Device device_ = at::kCPU;
};

/// inputs.at(name), or an Error(kArgument) that names the call and lists what was given.
ORRERY_API at::Tensor require_input(const TensorMap& inputs, const std::string& name, const std::string& call);

}  // namespace orrery

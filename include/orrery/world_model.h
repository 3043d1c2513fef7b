#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orrery/export.h"
#include "orrery/latents.h"
#include "orrery/load.h"

namespace orrery {

/// A row of an action space, in the simulator's own units.
using Action = std::vector<double>;

/// What WorldModel::generate imagines.
struct FutureOptions {
  Action action = {};                ///< taken at every step, where the world is one to act in
  std::vector<Action> actions = {};  ///< in place of `action`: one row a frame
  std::string prompt = {};           ///< where the world is told in words
  /// Frames to imagine; of a world told in words, the seen ones included. A tokenizer that codes 1 + s·n frames codes s·n of
  /// them behind the newest seen frame, which then is the first that decodes.
  int64_t num_frames = 16;
  uint64_t seed = 0;
};

/// Any world model, on tokens: one to act in (see World), or one told in words (see WorldModelPipeline, which says more).
/// Const, shareable between threads.
class ORRERY_API WorldModel {
 public:
  /// A folder with model_index.json, or a hub id. Throws Error as the two do.
  static WorldModel from_pretrained(const std::string& path, const LoadOptions& options = {});
  ~WorldModel();
  WorldModel(WorldModel&&) noexcept;
  WorldModel& operator=(WorldModel&&) noexcept;

  /// The row that a named action means ("move forward", …). Throws Error(kArgument) listing the names that there are.
  Action encode_action(const std::string& name) const;
  /// The future behind `seen`, as latents of the model's own tokenizer. The seen latents are decoded first, since a model
  /// goes on from the last frames, wherever they lie in a latent. Throws Error(kArgument) on what the model cannot use.
  Latents generate(const Latents& seen, const FutureOptions& options = {}) const;

 private:
  struct Impl;
  explicit WorldModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The name under which Cosmos users look for it.
using CosmosWorldModel = WorldModel;

}  // namespace orrery

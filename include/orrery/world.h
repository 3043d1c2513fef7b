#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "orrery/action_space.h"
#include "orrery/conditions.h"
#include "orrery/export.h"
#include "orrery/load.h"
#include "orrery/state.h"
#include "orrery/video.h"

namespace orrery {

/// What a world is begun with beside pictures; a world rejects what it cannot use.
struct ORRERY_API WorldPrompt {
  std::string text;       ///< for worlds with a text encoder
  Conditions conditions;  ///< or embeddings, camera, …, by meaning

  /// For worlds that are begun with pictures and nothing else: throws Error(kArgument) if anything is given.
  void refuse() const;
};

/// What happened, enough to imagine it again to the byte: where it began, what was done, and a hash of what was seen.
struct ORRERY_API Recording {
  std::string start;                         ///< State::save() before the first action; holds the seed and the model's hash
  std::vector<std::vector<double>> actions;  ///< one for each step
  std::vector<uint64_t> hashes;              ///< hash_of_frames() of each step
  std::map<uint64_t, TensorMap> told;        ///< State::context from so many steps on, where World::tell() changed it

  /// Adds a step that was taken.
  void add(const std::vector<double>& action, const at::Tensor& frames);
  /// Adds that the world was told something before the next step.
  void add_told(const State& state) { told[actions.size()] = state.context; }
  /// The recording as bytes, checked like a state's. from_bytes() throws Error(kArgument) on anything else.
  std::string to_bytes() const;
  static Recording from_bytes(std::string_view bytes);  ///< see to_bytes()
};

/// A 64-bit hash of frames as they came out of step(), bit for bit.
ORRERY_API uint64_t hash_of_frames(const at::Tensor& frames);

/// An interactive world, loaded: const, shareable between threads. A model implements the protected part; what is public
/// checks its arguments, keeps the past and lets nothing but Error out. A step that throws leaves its state as it was.
class ORRERY_API World {
 public:
  virtual ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  /// Loads a world's folder (model_index.json). Throws Error(kUnsupported) for a pipeline that is no interactive world.
  static std::unique_ptr<World> from_pretrained(const std::string& path, const LoadOptions& options = {});

  /// What a row of action means, its range and its names.
  virtual const ActionSpace& action_space() const = 0;
  /// Height and width of imagined frames, in pixels.
  virtual int64_t height() const = 0;
  virtual int64_t width() const = 0;  ///< see height()
  /// A hash of all configurations and weights, computed when first asked for (save() and restore() ask): it reads the
  /// model's files. Throws Error(kWeights) where they cannot be read any more.
  uint64_t hash() const;

  /// A world at rest in front of this picture (one frame), or in the middle of these (several); any size. Throws
  /// Error(kArgument) on frames that are not uint8 [T,H,W,3], or a prompt that it cannot use.
  State begin(const Video& observed, uint64_t seed = 0, const WorldPrompt& prompt = {}) const;
  /// Imagines what follows `action` (see ActionSpace::check) and returns the new frames, float [T,3,H,W] in [-1,1]; T is 1
  /// but for models that imagine blocks. `noise` float [C,h,w] ([t,C,h,w] for a block) replaces the generator. Throws
  /// Error(kArgument) on an action that does not fit, a closed state, or one of another model.
  at::Tensor step(State& state, const std::vector<double>& action, const at::Tensor& noise = {}) const;
  /// Several worlds as one batch, each as it would go alone. An error names the row, and no state has moved.
  std::vector<at::Tensor> step(std::span<State> states, std::span<const std::vector<double>> actions) const;

  /// Whether it can be told something in words, at its beginning and while it goes on.
  virtual bool takes_prompt() const { return false; }
  /// Tells it other words (or their embedding): its next step follows them. What was seen and imagined stays as it is, so
  /// the keys of past frames are not made anew. Throws Error(kArgument) where the world takes none, leaving the state as it
  /// was.
  void tell(State& state, const WorldPrompt& prompt) const;

  /// A state from State::save(). Throws Error(kArgument) on damage, another version, or another model's state.
  State restore(std::string_view bytes) const;
  /// Imagines a recording again. Throws Error(kArgument) naming the first frame that differs.
  std::vector<at::Tensor> replay(const Recording& recording) const;

  /// See ActionSpace::encode.
  std::vector<double> encode_action(const std::string& name) const { return action_space().encode(name); }

 protected:
  World();  ///< from_pretrained() gives it its identity and its device
  /// Where it was loaded to run. Prompts and noise come from there; so do a restored state's floating-point tensors, as this
  /// world made them. Counters, bytes and `observed` lie with the processor.
  at::Device device() const { return device_; }
  /// A new state; `observed` has at least one frame.
  virtual State observe(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const = 0;
  /// Throws Error(kArgument) unless a restored state's tensors are such as this model makes: bytes come from strangers.
  virtual void verify(const State& state) const = 0;
  /// Advances a state by an action that was checked; what it throws may leave the state in any condition.
  virtual at::Tensor imagine(State& state, const std::vector<double>& action, const at::Tensor& noise) const = 0;
  /// Replaces what of the state's context depends on words; what it throws may leave the context in any condition.
  virtual void follow(State& state, const WorldPrompt& prompt) const;
  /// The same for several, one after the other unless a model can do better.
  virtual std::vector<at::Tensor> imagine_all(std::span<State> states, std::span<const std::vector<double>> actions) const;

 private:
  void check(const State& state) const;
  std::shared_ptr<const ModelIdentity> identity_;
  at::Device device_ = at::kCPU;
};

}  // namespace orrery

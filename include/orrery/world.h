#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "orrery/export.h"
#include "orrery/load.h"
#include "orrery/video.h"

namespace orrery {

/// What a world's actions are: one row of `width` numbers a step, in the simulator's own units.
struct ActionSpace {
  std::string name;                                ///< of the world
  bool discrete = false;                           ///< a row is one index
  int64_t width = 1;                               ///< A, numbers in a row
  std::vector<std::string> names;                  ///< of the numbers
  std::vector<double> low, high;                   ///< range of each number
  std::string units;                               ///< for people
  double rate_hz = 0;                              ///< steps a second of the simulator
  std::map<std::string, std::vector<double>> named;  ///< rows that have a name ("move forward", "left")
};

/// One world being imagined: the only thing that changes. Move-only; fork() copies it in constant time, since tensors are shared
/// and never written in place. One thread at a time.
class ORRERY_API State {
 public:
  State() = default;
  State(State&&) = default;
  State& operator=(State&&) = default;

  /// A second world that goes on from here.
  State fork() const;
  /// Bytes of the tensors it holds.
  int64_t bytes() const;

  std::vector<at::Tensor> caches;  ///< keys and values of past frames, by layer
  at::Tensor last;                 ///< the latent of the newest frame
  int64_t frame = 0;               ///< frames observed or imagined so far; also the noise counter
  uint64_t seed = 0;               ///< of the noise

 private:
  State(const State&) = default;
};

/// An interactive world, loaded: const, shareable between threads.
class ORRERY_API World {
 public:
  virtual ~World();
  /// Loads a world's folder (model_index.json). Throws Error(kUnsupported) for a pipeline that is no interactive world.
  static std::unique_ptr<World> from_pretrained(const std::string& path, const LoadOptions& options = {});

  /// What a row of action means, its range and its names.
  virtual const ActionSpace& action_space() const = 0;
  /// Height and width of imagined frames, in pixels.
  virtual int64_t height() const = 0;
  virtual int64_t width() const = 0;  ///< see height()

  /// A world at rest in front of this picture (one frame), or in the middle of these (several); any size.
  virtual State begin(const Video& observed, uint64_t seed = 0) const = 0;
  /// Imagines the frame after `action` (A numbers in the simulator's units) and returns it, float [1,3,H,W] in [-1,1].
  /// `noise` float [C,h,w] replaces the generator. Throws Error(kArgument) on a row of another width, with NaN, or out of range.
  virtual at::Tensor step(State& state, const std::vector<double>& action, const at::Tensor& noise = {}) const = 0;

  /// The row that a named action means. Throws Error(kArgument) listing the known names.
  std::vector<double> encode_action(const std::string& name) const;
};

}  // namespace orrery

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "orrery/export.h"
#include "orrery/weights.h"

namespace orrery {

class ModelIdentity;  ///< of the world that began it; private to the library

/// One world being imagined, as a value: the only thing that changes. Move-only, so that a copy is always a deliberate
/// fork(). Its tensors are never written in place but replaced; forks and the past therefore share them, and a step costs
/// only what is new. A model that keeps keys and values keeps them by the frame ("pages"), so that consecutive moments share
/// all but one. One thread at a time; forks are states of their own, and may go on in as many threads as there are.
class ORRERY_API State {
 public:
  State() = default;
  State(State&&) = default;
  State& operator=(State&&) = default;

  /// A second world that goes on from here, with the same past.
  State fork() const;
  /// `count` of them, which may be 0. Throws Error(kArgument) for fewer.
  std::vector<State> fork(int64_t count) const;

  /// Steps that can be taken back: those since begin() or restore(), but at most `history_limit`.
  int64_t rewindable() const { return static_cast<int64_t>(history_.size()); }
  /// Takes the last `steps` back. Throws Error(kArgument) beyond rewindable(), leaving the state as it was.
  void rewind(int64_t steps);
  /// Frames kept for rewind(), each sharing most of its memory with the next. 0 keeps none.
  int64_t history_limit = 64;

  /// Everything but the past, as bytes: a version, the model's hash, sizes and a checksum come with it. Little-endian, so
  /// the same on every machine and device. World::restore() reads them. Throws Error(kArgument) for a state that was never
  /// begun, or is closed.
  std::string save() const;

  /// Lets everything go. A later step is an Error(kArgument).
  void close();
  bool closed() const { return closed_; }  ///< see close()

  /// Bytes of the distinct tensors of the present moment.
  int64_t bytes() const;
  /// The same with the past that rewind() needs, shared tensors counted once.
  int64_t bytes_with_history() const;

  // What a model keeps, all of it replaced and never written in place.
  std::vector<at::Tensor> caches;  ///< in the model's own order: keys and values of past frames, tails of convolutions, …
  at::Tensor last;                 ///< the latent of the newest frame
  TensorMap context;               ///< what steps do not change: keys of a text, embeddings of a picture, …
  int64_t frame = 0;               ///< frames observed or imagined so far; also the noise counter
  uint64_t seed = 0;               ///< of the noise

 private:
  friend class World;
  State(const State&) = default;

  // What a step replaces.
  struct Moment {
    std::vector<at::Tensor> caches;
    at::Tensor last;
    int64_t frame = 0;
    TensorMap context;
  };
  Moment now() const { return {caches, last, frame, context}; }
  int64_t bytes_of(const std::deque<Moment>& past) const;  // and of the present
  void go_to(Moment moment);
  void remember(Moment moment);

  std::shared_ptr<const ModelIdentity> model_;
  std::deque<Moment> history_;
  bool closed_ = false;
};

}  // namespace orrery

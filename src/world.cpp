#include "orrery/world.h"

#include <ATen/ATen.h>

#include <sstream>

#include "byte_stream.h"
#include "content_hash.h"
#include "guarded.h"
#include "model_identity.h"
#include "models/registry.h"
#include "orrery/error.h"
#include "placement.h"
#include "state_format.h"

namespace orrery {
namespace {

std::string hexadecimal(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

[[noreturn]] void foreign(uint64_t expected, uint64_t got) {
  throw Error(ErrorKind::kArgument, {.place = "state",
                                     .what = "belongs to another model",
                                     .expected = "model " + hexadecimal(expected),
                                     .got = "model " + hexadecimal(got)});
}

// Of what was saved, floating-point tensors lie where the world runs.
at::Tensor brought(const at::Tensor& tensor, at::Device device) {
  return tensor.defined() && tensor.is_floating_point() ? tensor.to(device) : tensor;
}
TensorMap brought(TensorMap tensors, at::Device device) {
  for (auto& [name, tensor] : tensors) tensor = brought(tensor, device);
  return tensors;
}

// Worlds look into the frames themselves.
void check_frames(const at::Tensor& frames) {
  if (!frames.defined()) return;
  const bool pictures = frames.dim() == 4 && frames.size(1) > 0 && frames.size(2) > 0 && frames.size(3) == 3;
  if (pictures && frames.scalar_type() == at::kByte && frames.is_cpu()) return;
  std::ostringstream got;
  got << at::toString(frames.scalar_type()) << ' ' << frames.sizes() << " on " << frames.device();
  throw Error(ErrorKind::kArgument,
              {.place = "observation", .what = "is no picture", .expected = "uint8 [T,H,W,3] on the CPU", .got = got.str()});
}

}  // namespace

void WorldPrompt::refuse() const {
  const Conditions& given = conditions;
  if (text.empty() && !given.text.defined() && !given.image.defined() && !given.camera.defined() && given.controls.empty())
    return;
  throw Error(ErrorKind::kArgument,
              {.place = "prompt", .what = "cannot be used by this world", .expected = "pictures alone"});
}

World::World() : identity_(std::make_shared<ModelIdentity>("")) {}
World::~World() = default;

std::unique_ptr<World> World::from_pretrained(const std::string& path, const LoadOptions& options) {
  return guarded(path, [&] {
    const ModelDescription model = describe_model(path, options.work);
    if (model.class_name.empty())
      throw Error(ErrorKind::kUnsupported, {.place = model.path.string(),
                                            .what = "is no interactive world",
                                            .expected = "a folder with a model_index.json, or a world's own files",
                                            .got = "a " + model.kind});
    std::unique_ptr<World> world = models::world_entry_of(model.class_name, path).build(model, options);
    world->identity_ = std::make_shared<ModelIdentity>(model.path);
    world->device_ = options.device;
    return world;
  });
}

uint64_t World::hash() const {
  return guarded("hash", [&] { return identity_->hash(); });
}

State World::begin(const Video& observed, uint64_t seed, const WorldPrompt& prompt) const {
  return guarded("begin", [&] {
    check_frames(observed.frames);
    if (observed.num_frames() < 1 && !prompt.conditions.known.defined() && !takes_prompt())
      throw Error(ErrorKind::kArgument,
                  {.place = "observation", .what = "has no frame", .expected = "at least one picture"});
    State state = observe(observed, seed, {prompt.text, placed(prompt.conditions, device_)});
    state.model_ = identity_;
    return state;
  });
}

void World::check(const State& state) const {
  if (state.closed_)
    throw Error(ErrorKind::kArgument, {.place = "state", .what = "is closed", .hint = "begin or restore another"});
  if (!state.model_)
    throw Error(ErrorKind::kArgument,
                {.place = "state", .what = "was not begun by this world", .hint = "call begin() first"});
  if (state.model_ != identity_ && state.model_->hash() != hash()) foreign(hash(), state.model_->hash());
}

at::Tensor World::step(State& state, const std::vector<double>& action, const at::Tensor& noise) const {
  return guarded("step", [&] {
    check(state);
    action_space().check(action);
    if (noise.defined() && !at::isfinite(noise).all().item<bool>())
      throw Error(ErrorKind::kArgument, {.place = "noise", .what = "is not finite (NaN or infinity)"});
    State::Moment before = state.now();
    try {
      const at::Tensor frames = imagine(state, action, placed(noise, device_)).cpu();
      state.remember(std::move(before));
      return frames;
    } catch (const c10::Error&) {  // all else was checked, so it is the noise that does not fit the network
      state.go_to(std::move(before));
      if (!noise.defined()) throw;
      std::ostringstream got;
      got << noise.sizes();
      throw Error(ErrorKind::kArgument, {.place = "noise", .what = "does not fit a step of this world", .got = got.str()});
    } catch (...) {
      state.go_to(std::move(before));
      throw;
    }
  });
}

std::vector<at::Tensor> World::step(std::span<State> states, std::span<const std::vector<double>> actions) const {
  return guarded("step", [&] {
    if (states.size() != actions.size())
      throw Error(ErrorKind::kArgument, {.place = "actions",
                                         .what = "are not one for each world",
                                         .expected = std::to_string(states.size()) + " rows",
                                         .got = std::to_string(actions.size())});
    for (size_t i = 0; i < states.size(); ++i) {
      check(states[i]);
      action_space().check(actions[i], "actions: row " + std::to_string(i));
    }
    std::vector<State::Moment> before;
    for (const State& state : states) before.push_back(state.now());
    try {
      std::vector<at::Tensor> frames = imagine_all(states, actions);
      for (at::Tensor& each : frames) each = each.cpu();
      for (size_t i = 0; i < states.size(); ++i) states[i].remember(std::move(before[i]));
      return frames;
    } catch (...) {
      for (size_t i = 0; i < states.size(); ++i) states[i].go_to(std::move(before[i]));
      throw;
    }
  });
}

void World::tell(State& state, const WorldPrompt& prompt) const {
  guarded("tell", [&] {
    check(state);
    const TensorMap before = state.context;
    try {
      follow(state, {prompt.text, placed(prompt.conditions, device_)});
    } catch (...) {
      state.context = before;
      throw;
    }
  });
}

void World::follow(State&, const WorldPrompt&) const {
  throw Error(ErrorKind::kArgument, {.place = "prompt", .what = "cannot be used: this world follows actions alone"});
}

std::vector<at::Tensor> World::imagine_all(std::span<State> states, std::span<const std::vector<double>> actions) const {
  std::vector<at::Tensor> frames;
  for (size_t i = 0; i < states.size(); ++i) frames.push_back(imagine(states[i], actions[i], {}));
  return frames;
}

State World::restore(std::string_view bytes) const {
  return guarded("restore", [&] {
    ByteReader in(bytes, kStateKind, kStateVersion, "state");
    if (const auto got = in.number<uint64_t>(); got != hash()) foreign(hash(), got);
    const auto read = [&] { return brought(in.tensor(), device_); };
    State state;
    state.frame = in.number<int64_t>();
    state.seed = in.number<uint64_t>();
    for (uint32_t i = in.count(1); i > 0; --i) state.caches.push_back(read());
    state.last = read();
    state.context = brought(in.tensors(), device_);
    in.end();
    verify(state);
    state.model_ = identity_;
    return state;
  });
}

std::vector<at::Tensor> World::replay(const Recording& recording) const {
  State state = restore(recording.start);
  std::vector<at::Tensor> frames;
  for (size_t i = 0; i < recording.actions.size(); ++i) {
    if (const auto told = recording.told.find(i); told != recording.told.end()) {
      state.context = brought(told->second, device_);
      verify(state);
    }
    frames.push_back(step(state, recording.actions[i]));
    const uint64_t got = hash_of_frames(frames.back()), expected = i < recording.hashes.size() ? recording.hashes[i] : 0;
    if (got == expected) continue;
    throw Error(ErrorKind::kArgument, {.place = "replay: frame " + std::to_string(i),
                                       .what = "is not what was recorded",
                                       .expected = hexadecimal(expected),
                                       .got = hexadecimal(got),
                                       .hint = "recordings repeat to the byte on the same build and kind of processor"});
  }
  return frames;
}

uint64_t hash_of_frames(const at::Tensor& frames) {
  const at::Tensor whole = frames.cpu().contiguous();
  ContentHash hash;
  for (const int64_t size : whole.sizes()) hash.add(&size, sizeof size);
  hash.add(whole.const_data_ptr(), whole.nbytes());
  return hash.value();
}

void Recording::add(const std::vector<double>& action, const at::Tensor& frames) {
  actions.push_back(action);
  hashes.push_back(hash_of_frames(frames));
}

std::string Recording::to_bytes() const {
  ByteWriter out(kRecordingKind, kRecordingVersion);
  out.text(start);
  out.number(static_cast<uint32_t>(actions.size()));
  for (size_t i = 0; i < actions.size(); ++i) {
    out.number(static_cast<uint32_t>(actions[i].size()));
    for (const double number : actions[i]) out.number(number);
    out.number(i < hashes.size() ? hashes[i] : uint64_t{0});
  }
  out.number(static_cast<uint32_t>(told.size()));
  for (const auto& [step, context] : told) {
    out.number(step);
    out.tensors(context);
  }
  return std::move(out).sealed();
}

Recording Recording::from_bytes(std::string_view bytes) {
  ByteReader in(bytes, kRecordingKind, kRecordingVersion, "recording");
  Recording recording;
  recording.start = in.text();
  for (uint32_t steps = in.count(sizeof(uint32_t) + sizeof(uint64_t)); steps > 0; --steps) {
    std::vector<double> action(in.count(sizeof(double)));
    for (double& number : action) number = in.number<double>();
    recording.actions.push_back(std::move(action));
    recording.hashes.push_back(in.number<uint64_t>());
  }
  for (uint32_t changes = in.count(sizeof(uint64_t) + sizeof(uint32_t)); changes > 0; --changes) {
    const auto step = in.number<uint64_t>();
    recording.told[step] = in.tensors();
  }
  in.end();
  return recording;
}

}  // namespace orrery

#include "play/session.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include "orrery/error.h"

namespace program::play {
namespace {

using nlohmann::json;
using orrery::Error;
using orrery::ErrorKind;

constexpr int64_t kMostRemembered = 600, kMemoryOfFrames = int64_t{32} << 20;
constexpr int64_t kMostRecorded = 18000;  // half an hour at 10 frames a second
constexpr size_t kMostWorlds = 2;

[[noreturn]] void refuse(const std::string& what, const std::string& expected) {
  throw Error(ErrorKind::kArgument, {.place = "message", .what = what, .expected = expected});
}

// A member that must be a number; NaN and infinities cannot be written in JSON.
double number(const json& message, const char* name) {
  const auto found = message.find(name);
  if (found == message.end() || !found->is_number()) refuse(std::string("has no number '") + name + "'", "a number");
  return found->get<double>();
}

int64_t whole(const json& message, const char* name, double low, double high) {
  const double value = number(message, name);
  if (!(value >= low && value <= high))
    refuse(std::string("has '") + name + "' out of range",
           std::to_string(static_cast<int64_t>(low)) + " … " + std::to_string(static_cast<int64_t>(high)));
  return static_cast<int64_t>(value);
}

// A file that is gone when this is.
struct TemporaryFile {
  std::filesystem::path path;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

orrery::Video picture_from(const std::string& bytes, const std::filesystem::path& place) {
  const TemporaryFile file{place};
  std::ofstream(file.path, std::ios::binary) << bytes;
  try {
    return orrery::read_image(file.path);
  } catch (const Error& error) {
    throw Error(
        ErrorKind::kMedia,
        {.place = "upload", .what = "is no picture that can be read", .expected = "PNG, JPEG, WebP, GIF or a saved state"});
  }
}

Opening open(const orrery::World& world, orrery::Video first, uint64_t seed, const orrery::WorldPrompt& prompt) {
  Opening out{world.begin(first, seed, prompt), std::move(first), seed, {}};
  // Before the first step there is only the picture it began with.
  if (out.first.num_frames() > 0)
    out.shown = orrery::resize(out.first, {.height = world.height(), .width = world.width()}).frames;
  return out;
}

}  // namespace

Session::Session(const Setting& setting, std::string name)
    : setting_(setting), name_(std::move(name)), prompt_(setting.prompt) {
  begin(open(*setting.world, setting.first, 0, prompt_));
}

json Session::begin(Opening opening) {
  first_ = std::move(opening.first);
  seed_ = opening.seed;
  restart(std::move(opening.state));
  if (opening.shown.defined()) shown_[0] = {opening.shown};
  return begun("begin");
}

void Session::restart(orrery::State state) {
  const int64_t bytes = 3 * setting_.world->height() * setting_.world->width();
  state.history_limit = std::clamp<int64_t>(kMemoryOfFrames / bytes, 1, kMostRemembered);
  const auto& space = setting_.world->action_space();
  std::vector<double> row = space.idle;
  for (int64_t i = static_cast<int64_t>(row.size()); i < space.width; ++i)
    row.push_back(space.low.empty() ? 0 : (space.low[i] + space.high[i]) / 2);
  lives_.clear();
  lives_.push_back(std::move(state));
  rows_ = {row};
  shown_.assign(1, {at::full({1, setting_.world->height(), setting_.world->width(), 3}, 32, at::kByte)});
  active_ = 0;
  peek_ = 0;
  stale_ = true;
}

json Session::handle(const std::string& text) {
  const json message = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!message.is_object() || !message.contains("do") || !message["do"].is_string())
    refuse("makes no sense", "a JSON object with 'do'");
  const std::string what = message["do"];
  if (what == "act") {
    const auto row = message.find("row");
    if (row == message.end() || !row->is_array()) refuse("has no 'row'", "an array of numbers");
    std::vector<double> action;
    for (const json& each : *row) action.push_back(each.is_number() ? each.get<double>() : std::nan(""));
    setting_.world->action_space().check(action);
    rows_[active_] = std::move(action);
    if (message.contains("t")) echo_ = number(message, "t");
  } else if (what == "pause" || what == "resume") {
    paused_ = what == "pause";
    peek_ = 0;
    due_ = Clock::now();
    stale_ = true;
  } else if (what == "peek") {
    peek_ = whole(message, "steps", 0, static_cast<double>(shown_[active_].size() - 1));
    paused_ = stale_ = true;
  } else if (what == "rewind") {
    rewind(whole(message, "steps", -1, 1e9));
  } else if (what == "fork") {
    if (lives_.size() == kMostWorlds) refuse("asks for a third world", "at most two side by side");
    lives_.push_back(lives_[active_].fork());
    rows_.push_back(rows_[active_]);
    shown_.push_back(shown_[active_]);
    active_ = lives_.size() - 1;
    stale_ = true;
  } else if (what == "choose") {
    active_ = static_cast<size_t>(whole(message, "world", 0, static_cast<double>(lives_.size() - 1)));
    stale_ = true;
  } else if (what == "keep") {  // the active world alone
    std::swap(lives_[0], lives_[active_]);
    std::swap(rows_[0], rows_[active_]);
    std::swap(shown_[0], shown_[active_]);
    lives_.resize(1);
    rows_.resize(1);
    shown_.resize(1);
    active_ = 0;
    stale_ = true;
  } else if (what == "restart") {
    const int64_t seed = message.contains("seed") ? whole(message, "seed", 0, 9e15) : static_cast<int64_t>(seed_) + 1;
    begin(open(*setting_.world, first_, static_cast<uint64_t>(seed), prompt_));
    return begun(what);
  } else if (what == "prompt") {
    const auto words = message.find("text");
    if (words == message.end() || !words->is_string()) refuse("has no 'text'", "words");
    orrery::WorldPrompt prompt;
    prompt.text = *words;
    setting_.world->tell(lives_[active_], prompt);
    prompt_.text = std::move(prompt.text);
    prompt_.conditions.text = at::Tensor();
  } else if (what == "speed") {
    const double speed = number(message, "times");
    if (!(speed > 0 && speed <= 1000)) refuse("has a speed out of range", "above 0, at most 1000");
    speed_ = speed;
  } else if (what == "record") {
    if (!recording_) {
      recorded_ = setting_.folder / (name_ + "-" + std::to_string(++recordings_) + ".mp4");
      recording_ = std::make_unique<orrery::VideoWriter>(recorded_, orrery::WriteOptions{.fps = setting_.rate_hz});
      recorded_frames_ = 0;
    }
  } else if (what == "stop") {
    return stop_recording();
  } else if (what != "save") {
    refuse("asks for something unknown: '" + what.substr(0, 40) + "'",
           "act, pause, resume, peek, rewind, fork, choose, keep, restart, prompt, speed, record, stop or save");
  }
  return {{"done", what}};
}

json Session::load(const std::string& bytes) {
  restart(setting_.world->restore(bytes));
  return begun("load");
}

std::function<Opening()> Session::opening(std::string bytes) const {
  return [world = setting_.world, bytes = std::move(bytes), place = setting_.folder / (name_ + "-upload"), seed = seed_,
          prompt = prompt_] { return open(*world, picture_from(bytes, place), seed, prompt); };
}

// The answer where a world begins anew, with the action that it goes on with: the page may still show another.
json Session::begun(const std::string& what) const {
  return {{"done", what}, {"row", rows_[active_]}};
}

void Session::rewind(int64_t steps) {
  lives_[active_].rewind(steps);
  auto& shown = shown_[active_];
  shown.resize(std::max<size_t>(1, shown.size() - std::min<size_t>(shown.size() - 1, static_cast<size_t>(steps))));
  peek_ = 0;
  paused_ = stale_ = true;
}

void Session::step() {
  const Clock::time_point start = Clock::now();
  std::vector<at::Tensor> imagined;
  try {
    imagined = setting_.world->step(lives_, rows_);
  } catch (...) {  // told once, and not again with each step that would fail alike
    paused_ = stale_ = true;
    throw;
  }
  step_ms_ = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  for (size_t i = 0; i < lives_.size(); ++i) {
    shown_[i].push_back(orrery::to_video(imagined[i], 0).frames);  // [T,3,H,W] → [T,H,W,3]
    while (static_cast<int64_t>(shown_[i].size()) > lives_[i].rewindable() + 1) shown_[i].pop_front();
  }
  block_ = static_cast<double>(imagined[active_].size(0));
  const double seconds = std::chrono::duration<double>(start - last_step_).count() / block_;
  last_step_ = start;
  if (seconds < 5) measured_hz_ = measured_hz_ == 0 ? 1 / seconds : 0.8 * measured_hz_ + 0.2 / seconds;
  // A world that is late does not hurry afterwards. One that imagines blocks owes the next when this one has been seen.
  due_ = std::max(due_ + std::chrono::duration_cast<Clock::duration>(
                             std::chrono::duration<double>(block_ / (setting_.rate_hz * speed_))),
                  Clock::now());
  peek_ = 0;
  stale_ = true;
  if (recording_) record(shown_[active_].back());
}

// Last of a step, so that a full disk ends the recording and not the world.
void Session::record(const at::Tensor& frames) {
  try {
    recording_->write(frames);
    recorded_frames_ += frames.size(0);
    if (recorded_frames_ >= kMostRecorded) recording_->finish(), recording_.reset();
  } catch (...) {
    recording_.reset();
    recorded_frames_ = 0;
    throw;
  }
}

json Session::stop_recording() {
  const auto recording = std::move(recording_);
  if (std::exchange(recorded_frames_, 0) == 0) refuse("stops a recording that has no frame", "some steps first");
  if (recording) recording->finish();
  return {{"done", "stop"}, {"recording", "/recordings/" + recorded_.filename().string()}};
}

const at::Tensor& Session::visible(size_t world) const {
  const auto& shown = shown_[world];
  const size_t back = world == active_ ? std::min(static_cast<size_t>(peek_), shown.size() - 1) : 0;
  return shown[shown.size() - 1 - back];
}

std::string Session::picture() {
  const at::Tensor& first = visible(0);
  const json header = {{"frame", lives_[active_].frame},
                       {"worlds", lives_.size()},
                       {"active", active_},
                       {"frames", first.size(0)},
                       {"height", first.size(1)},
                       {"width", first.size(2)},
                       {"step_ms", step_ms_},
                       {"hz", measured_hz_},
                       {"rewindable", lives_[active_].rewindable()},
                       {"peek", peek_},
                       {"seconds_ago", static_cast<double>(peek_) * block_ / setting_.rate_hz},
                       {"paused", paused_},
                       {"recording", recording_ != nullptr},
                       {"echo", echo_},
                       {"row", rows_[active_]},
                       {"seed", seed_},
                       {"state_bytes", lives_[active_].bytes()}};
  echo_ = -1;
  stale_ = false;
  const std::string text = header.dump();
  const auto size = static_cast<uint32_t>(text.size());
  std::string out = "F";
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(size >> shift & 0xff);
  out += text;
  for (size_t i = 0; i < lives_.size(); ++i) {
    const at::Tensor pixels = visible(i).contiguous();
    out.append(static_cast<const char*>(pixels.const_data_ptr()), pixels.nbytes());
  }
  return out;
}

}  // namespace program::play

// A steady step, on every kind of world: it allocates nothing that grows, and encodes no picture again.
#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <memory>

#include "content_hash.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

// What LibTorch's allocator for the processor hands out on this thread, and what came back of it.
struct Tensors : c10::MemoryReportingInfoBase {
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    taken += std::max<int64_t>(bytes, 0);
    kept += bytes;
  }
  bool memoryProfilingEnabled() const override { return true; }

  int64_t taken = 0, kept = 0;
};

// A world whose encoder has nothing but zeros: whoever uses it sees nothing. A copy of `model`, in `place`.
void copy_without_encoder(const fs::path& model, const fs::path& place) {
  for (const auto& item : fs::recursive_directory_iterator(model, fs::directory_options::follow_directory_symlink)) {
    const fs::path copy = place / item.path().lexically_relative(model);
    if (item.is_directory())
      fs::create_directories(copy);
    else
      testing::write_file(copy, testing::read_file(item.path()));
  }
  for (const char* name : {"model.safetensors", "diffusion_pytorch_model.safetensors"}) {
    const fs::path file = place / "vae" / name;
    if (!fs::exists(file)) continue;
    TensorMap weights = load_safetensors(file);
    for (auto& [tensor, value] : weights)
      if (tensor.starts_with("encoder.") || tensor.starts_with("patch_embed.") || tensor.starts_with("quant_conv."))
        value = at::zeros_like(value);
    fs::remove(file);
    save_safetensors(file, weights);
  }
}

// The saved state as one of the world with this hash.
std::string as_of(std::string saved, uint64_t hash) {
  constexpr size_t kPlace = 20;  // behind kind, version and size
  std::memcpy(saved.data() + kPlace, &hash, sizeof hash);
  saved.resize(saved.size() - sizeof hash);
  ContentHash seal;
  seal.add(saved);
  const uint64_t value = seal.value();
  saved.append(reinterpret_cast<const char*>(&value), sizeof value);
  return saved;
}

struct Case {
  std::string name, folder;
  int64_t warm;  // steps until its window is full
};
void PrintTo(const Case& of, std::ostream* out) { *out << of.name; }  // CTest names a test by it

class SteadyStepTest : public ::testing::TestWithParam<Case> {
 protected:
  fs::path folder() const { return fs::absolute(testing::source_root() / GetParam().folder); }
  static std::unique_ptr<World> load(const fs::path& folder) { return World::from_pretrained(folder.string()); }

  State begin(const World& world) const {
    WorldPrompt prompt;
    const fs::path rollout = folder().parent_path() / "rollout.safetensors";
    const TensorMap given = fs::exists(rollout) ? load_safetensors(rollout) : TensorMap();
    if (given.contains("image_embeds")) prompt.conditions.image = given.at("image_embeds");
    if (given.contains("prompt_embeds")) prompt.conditions.text = given.at("prompt_embeds");
    const at::Tensor picture = given.contains("image") ? given.at("image") : at::full({1, 24, 24, 3}, 90, at::kByte);
    State state = world.begin({picture, 0}, 5, prompt);
    state.history_limit = 0;
    return state;
  }
  // Any row: the middle of each range, a little more each time.
  static std::vector<double> row(const World& world, int64_t i) {
    const ActionSpace& space = world.action_space();
    if (space.discrete) return {static_cast<double>(i % 2)};
    std::vector<double> row(static_cast<size_t>(space.width), 0.01 * static_cast<double>(i % 3));
    for (size_t k = 0; k < space.low.size(); ++k) row[k] += (space.low[k] + space.high[k]) / 2;
    return row;
  }
};

TEST_P(SteadyStepTest, AllocatesNothingThatGrows) {
  const auto world = load(folder());
  State state = begin(*world);
  int64_t i = 0;
  for (; i < GetParam().warm; ++i) world->step(state, row(*world, i));
  const auto tensors = std::make_shared<Tensors>();
  const c10::DebugInfoGuard counted(c10::DebugInfoKind::PROFILER_STATE, tensors);
  std::vector<int64_t> taken;
  for (const int64_t end = i + 4; i < end; ++i) {
    tensors->taken = 0;
    world->step(state, row(*world, i));
    taken.push_back(tensors->taken);
  }
  EXPECT_GT(taken[0], 0);
  EXPECT_EQ(taken, std::vector<int64_t>(taken.size(), taken[0])) << "a step costs what the one before cost";
  // What was allocated before counting began is not seen to go: so it is the later steps that must give back what they take.
  tensors->kept = 0;
  const int64_t bytes = state.bytes();
  for (const int64_t end = i + 2 * GetParam().warm; i < end; ++i) world->step(state, row(*world, i));
  const int64_t settled = tensors->kept;
  for (const int64_t end = i + 5; i < end; ++i) world->step(state, row(*world, i));
  EXPECT_EQ(tensors->kept, settled) << "a page comes for each that goes";
  EXPECT_EQ(state.bytes(), bytes);
}

// Worlds that imagine chunk by chunk do encode, as their repositories do: each chunk's first frame is the last picture.
TEST_P(SteadyStepTest, EncodesNoPictureAgain) {
  const testing::TemporaryFolder place;
  copy_without_encoder(folder(), place / "model");
  const auto world = load(folder()), blind = load(place / "model");
  State state = begin(*world), unseeing = begin(*blind), first = state.fork();
  EXPECT_FALSE(blind->step(unseeing, row(*blind, 0)).equal(world->step(first, row(*world, 0))))
      << "its encoder is of no use";
  State other = blind->restore(as_of(state.save(), blind->hash()));
  for (int64_t i = 0; i < GetParam().warm; ++i)
    EXPECT_TRUE(blind->step(other, row(*world, i)).equal(world->step(state, row(*world, i)))) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Worlds, SteadyStepTest,
    ::testing::Values(Case{"tiny", "examples/worlds/golden/tiny_model", 12}, Case{"pusht", "examples/worlds/pusht", 12},
                      Case{"oasis", "tests/golden/worlds/oasis/model", 8},
                      Case{"matrix_game", "tests/golden/worlds/matrix_game/model", 6},
                      Case{"cosmos_interactive", "tests/golden/worlds/cosmos_predict25_interactive/model", 8}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace orrery

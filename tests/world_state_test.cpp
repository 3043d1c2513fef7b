// State as a value: fork, rewind, save, restore, replay and batches, on the smallest bundled network.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "content_hash.h"
#include "orrery/error.h"
#include "orrery/world.h"
#include "support/errors.h"
#include "support/paths.h"

namespace orrery {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using Row = std::vector<double>;

std::string folder(const std::string& name) {
  return (testing::golden_folder().parent_path().parent_path() / "examples" / "worlds" / name).string();
}

class WorldStateTest : public ::testing::Test {
 protected:
  std::unique_ptr<World> world_ = World::from_pretrained(folder("golden/tiny_model"));
  State state_ = world_->begin({at::full({1, 33, 47, 3}, 90, at::kByte), 0}, 7);

  void walk(State& state, int from, int to) const {
    for (int i = from; i < to; ++i) world_->step(state, {10.0 * i, 500 - 7.0 * i});
  }
};

TEST_F(WorldStateTest, RewindGoesBackToWhatWas) {
  walk(state_, 0, 5);
  const std::string saved = state_.save();
  walk(state_, 5, 9);
  EXPECT_EQ(state_.rewindable(), 9);
  state_.rewind(4);
  EXPECT_EQ(state_.save(), saved);
  EXPECT_EQ(state_.rewindable(), 5);
}

TEST_F(WorldStateTest, RewindingPastTheBeginningIsAnErrorAndChangesNothing) {
  walk(state_, 0, 2);
  const std::string saved = state_.save();
  EXPECT_THAT(error_of([&] { state_.rewind(3); }),
              HasSubstr("rewind: goes beyond what this world remembers; expected 0 … 2 steps"));
  EXPECT_THROW(state_.rewind(-1), Error);
  EXPECT_EQ(state_.save(), saved);
  state_.rewind(2);
  EXPECT_THROW(state_.rewind(1), Error);
}

TEST_F(WorldStateTest, ThePastIsBoundedAndSharesItsMemory) {
  state_.history_limit = 6;
  walk(state_, 0, 8);
  const int64_t bytes = state_.bytes(), with_history = state_.bytes_with_history();
  EXPECT_EQ(state_.rewindable(), 6);
  EXPECT_LT(with_history, 5 * bytes);  // six moments more, each of them one page more
  walk(state_, 8, 30);
  EXPECT_EQ(state_.bytes(), bytes);
  EXPECT_EQ(state_.bytes_with_history(), with_history);
}

TEST_F(WorldStateTest, ForksShareUntilTheyPart) {
  walk(state_, 0, 3);
  std::vector<State> forks = state_.fork(3);
  EXPECT_TRUE(forks[1].caches[0].is_same(state_.caches[0]));
  const std::string saved = state_.save();
  walk(forks[0], 3, 4);
  EXPECT_EQ(state_.save(), saved);
  EXPECT_EQ(forks[2].save(), saved);
  EXPECT_EQ(forks[0].rewindable(), 4);
}

TEST_F(WorldStateTest, SavedBytesGoOnAsTheStateDoes) {
  walk(state_, 0, 3);
  State other =
      World::from_pretrained(folder("golden/tiny_model"))->restore(state_.save());  // by another program, as it were
  EXPECT_EQ(other.save(), state_.save());
  EXPECT_TRUE(world_->step(other, {1, 2}).equal(world_->step(state_, {1, 2})));
}

TEST_F(WorldStateTest, DamagedBytesAreRefused) {
  const std::string saved = state_.save();
  for (size_t size = 0; size < saved.size(); size += 97) EXPECT_THROW(world_->restore(saved.substr(0, size)), Error) << size;
  for (size_t at = 0; at < saved.size(); at += 61) {
    std::string damaged = saved;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_THROW(world_->restore(damaged), Error) << at;
  }
  EXPECT_THROW(world_->restore(saved + "x"), Error);
}

// What a stranger could do who writes a right checksum.
TEST_F(WorldStateTest, TensorsOfOtherShapesAreRefused) {
  State odd = state_.fork();
  odd.caches[0] = odd.caches[0].slice(2, 1);
  EXPECT_THAT(error_of([&] { world_->restore(odd.save()); }), HasSubstr("holds tensors of other shapes"));
  odd = state_.fork();
  odd.last = at::Tensor();
  EXPECT_THROW(world_->restore(odd.save()), Error);
  odd = state_.fork();
  odd.context["text"] = at::zeros({1});
  EXPECT_THROW(world_->restore(odd.save()), Error);
}

TEST_F(WorldStateTest, AnotherVersionIsRefused) {
  std::string saved = state_.save();
  ++saved[8];
  EXPECT_THAT(error_of([&] { world_->restore(saved); }),
              HasSubstr("another version of orrery; expected format 1, got format 2"));
}

TEST_F(WorldStateTest, AnotherModelsStateIsRefused) {
  const auto doom = World::from_pretrained(folder("doom"));
  EXPECT_NE(doom->hash(), world_->hash());
  EXPECT_THAT(error_of([&] { doom->restore(state_.save()); }), HasSubstr("belongs to another model"));
  EXPECT_THAT(error_of([&] { doom->step(state_, {1}); }), HasSubstr("belongs to another model"));
}

TEST_F(WorldStateTest, AClosedStateDoesNothing) {
  state_.close();
  EXPECT_THAT(error_of([&] { world_->step(state_, {1, 2}); }), HasSubstr("state: is closed"));
  EXPECT_THROW(state_.save(), Error);
  EXPECT_EQ(state_.bytes(), 0);
}

TEST_F(WorldStateTest, AReplayIsTheSameToTheByte) {
  Recording recording{.start = state_.save()};
  std::vector<at::Tensor> seen;
  for (int i = 0; i < 4; ++i) {
    const Row action = {50.0 * i, 20};
    seen.push_back(world_->step(state_, action));
    recording.add(action, seen.back());
  }
  const Recording read = Recording::from_bytes(recording.to_bytes());
  const auto again = world_->replay(read);
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_TRUE(again[i].equal(seen[i]));

  Recording changed = read;
  changed.actions[2] = {1, 2};
  EXPECT_THAT(error_of([&] { world_->replay(changed); }), HasSubstr("replay: frame 2: is not what was recorded"));
  EXPECT_THROW(Recording::from_bytes(state_.save()), Error);
}

TEST_F(WorldStateTest, ABatchIsItsWorldsOneByOne) {
  walk(state_, 0, 2);
  std::vector<State> together = state_.fork(3), alone = state_.fork(3);
  walk(together[1], 2, 5);
  walk(alone[1], 2, 5);
  const std::vector<Row> actions = {{1, 2}, {400, 20}, {256, 256}};
  for (int round = 0; round < 3; ++round) {
    const auto frames = world_->step(together, actions);
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(frames[i].equal(world_->step(alone[i], actions[i]))) << i;
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(together[i].save(), alone[i].save());
}

TEST_F(WorldStateTest, AWrongRowOfABatchIsNamedAndNothingMoves) {
  std::vector<State> states = state_.fork(2);
  const std::string saved = states[0].save();
  EXPECT_THAT(error_of([&] {
                world_->step(states, std::vector<Row>{{1, 2}, {1, std::nan("")}});
              }),
              HasSubstr("actions: row 1[1]: is not a finite number; got nan"));
  EXPECT_THAT(error_of([&] {
                world_->step(states, std::vector<Row>{{1, 2}, {1}});
              }),
              HasSubstr("actions: row 1: has the wrong width; expected 2 numbers, got 1"));
  EXPECT_THROW(world_->step(states, std::vector<Row>{{1, 2}}), Error);
  states[1].close();
  EXPECT_THROW(world_->step(states, std::vector<Row>{{1, 2}, {1, 2}}), Error);
  EXPECT_EQ(states[0].save(), saved);
}

TEST_F(WorldStateTest, SoManyForksCannotBe) {
  EXPECT_TRUE(state_.fork(0).empty());
  EXPECT_THAT(error_of([&] { state_.fork(-1); }), HasSubstr("fork: cannot make so many worlds; expected 0 or more, got -1"));
}

TEST_F(WorldStateTest, WhatIsNoPictureBeginsNoWorld) {
  for (const at::Tensor& frames :
       {at::zeros({1, 8, 8, 3}), at::zeros({8, 8, 3}, at::kByte), at::zeros({1, 8, 8, 4}, at::kByte),
        at::zeros({1, 0, 8, 3}, at::kByte), at::zeros({}, at::kByte)})
    EXPECT_THAT(error_of(
                    [&] {
                      world_->begin({frames, 0});
                    },
                    ErrorKind::kArgument),
                HasSubstr("observation: is no picture; expected uint8 [T,H,W,3]"));
  EXPECT_THAT(error_of([&] { world_->begin({at::zeros({0, 8, 8, 3}, at::kByte), 0}); }), HasSubstr("has no frame"));
}

TEST_F(WorldStateTest, APromptThatCannotBeUsedIsRefused) {
  EXPECT_THROW(world_->begin({at::zeros({1, 8, 8, 3}, at::kByte), 0}, 0, {.text = "a cat"}), Error);
  EXPECT_THROW(world_->begin({}), Error);
}

TEST(ContentHashTest, EveryByteCounts) {
  std::string text(77, 'a');
  const auto of = [](const std::string& bytes) {
    ContentHash hash;
    hash.add(bytes);
    return hash.value();
  };
  const uint64_t whole = of(text);
  for (char& letter : text) {
    letter = 'b';
    EXPECT_NE(of(text), whole);
    letter = 'a';
  }
  EXPECT_NE(of(text + std::string(1, '\0')), whole);
}

TEST(ActionSpaceTest, IsDescribedWithoutWeights) {
  const auto doom = describe_action_space(describe_model(folder("doom")));
  ASSERT_TRUE(doom.has_value());
  EXPECT_EQ(doom->encode("move forward"), Row{3});
  EXPECT_EQ(doom->idle, Row{0});
  EXPECT_EQ(doom->keys.at("ArrowLeft"), "turn left");
  const auto pusht = describe_action_space(describe_model(folder("pusht")));
  EXPECT_EQ(pusht->pointer, (std::vector<int64_t>{0, 1}));
  EXPECT_TRUE(pusht->idle.empty());
  EXPECT_THAT(error_of([&] { pusht->encode("fly"); }), HasSubstr("expected one of 'centre', 'down'"));
  EXPECT_FALSE(describe_action_space(describe_model(folder("doom/vae"))).has_value());
}

TEST(WorldInspectTest, BundledWorldsAreWhole) {
  for (const std::string name : {"pusht", "doom"})
    for (const ComponentDescription& part : describe_model(folder(name)).components) {
      const ComponentReport report = inspect_component(part);
      EXPECT_TRUE(report.missing.empty() && report.unexpected.empty() && report.misshapen.empty())
          << name << " " << part.name;
    }
}

TEST(ActionSpaceTest, ABlockTakesOneRowOrSeveral) {
  const ActionSpace space{.width = 2, .rows_per_step = 3};
  EXPECT_NO_THROW(space.check({1, 2}));
  EXPECT_NO_THROW(space.check({1, 2, 3, 4, 5, 6}));
  EXPECT_THROW(space.check({1, 2, 3}), Error);
  EXPECT_THROW(space.check({1, 2, 3, 4, 5, 6, 7, 8}), Error);
  EXPECT_THROW(space.check({1, INFINITY}), Error);
}

}  // namespace
}  // namespace orrery

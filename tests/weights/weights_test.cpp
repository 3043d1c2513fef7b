#include "orrery/weights.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "orrery/error.h"
#include "support/errors.h"
#include "support/temporary.h"
#include "weights/wrappers.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TemporaryFolder;
using testing::write_file;

std::string message_of(const std::function<void()>& work) {
  return testing::error_of(work, ErrorKind::kWeights);
}

Weights small() {
  return Weights::from(
      {{"a.b.w", at::ones({2, 3}, at::kBFloat16)}, {"a.b.n", at::ones({4}, at::kLong)}, {"c", at::zeros({1})}}, "here");
}

TEST(WeightsTest, ShardsWithoutAnIndexAreOneCheckpoint) {
  const TemporaryFolder folder;
  save_safetensors(folder / "net-00001-of-00002.safetensors", {{"net.a", at::ones({2})}});
  EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("does not hold all shards"));
  save_safetensors(folder / "net-00002-of-00002.safetensors", {{"net.b", at::zeros({3})}});
  EXPECT_THAT(Weights::open(folder.path()).names(), ElementsAre("a", "b"));
  save_safetensors(folder / "net-00002-of-00002.safetensors", {{"net.a", at::zeros({2})}});
  EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("in two shards"));
}

TEST(WeightsTest, ViewsReadUnderTheirPrefix) {
  const Weights weights = small();
  EXPECT_EQ(weights.sub("a").sub("b").get("w", {2, 3}).scalar_type(), at::kBFloat16);
  EXPECT_THAT(weights.sub("a").names(), ElementsAre("b.n", "b.w"));
  EXPECT_TRUE(weights.has_prefix("a"));
  EXPECT_TRUE(weights.has_prefix("a.b.w"));
  EXPECT_FALSE(weights.has_prefix("a.b.w.x"));
  EXPECT_FALSE(weights.has("a"));
  EXPECT_EQ(weights.sub("a").shape("b.w"), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(weights.shape("x"), std::nullopt);
  EXPECT_FALSE(weights.find("x", {1}).defined());
  EXPECT_EQ(Weights::from({{"blocks.3.w", at::ones({1})}}, "").sub("blocks", 3).get("w", {1}).numel(), 1);
}

TEST(WeightsTest, FloatTensorsComeInTheViewsDtype) {
  const Weights weights = small().to(at::kFloat).sub("a.b");
  EXPECT_EQ(weights.get("w", {2, 3}).scalar_type(), at::kFloat);
  EXPECT_EQ(weights.get("n", {4}).scalar_type(), at::kLong);
  EXPECT_EQ(weights.stored("w").scalar_type(), at::kBFloat16);
  EXPECT_EQ(weights.as_stored().get("w", {2, 3}).scalar_type(), at::kBFloat16);
  EXPECT_EQ(weights.as_stored().dtype(), at::kFloat);
  EXPECT_EQ(weights.to(at::kHalf).dtype(), at::kHalf);
}

TEST(WeightsTest, MissingAndMisshapenAreNamedInFull) {
  const Weights weights = small().sub("a");
  EXPECT_EQ(message_of([&] { weights.get("b.x", {2}); }),
            "weights: here: a.b.x: is missing; expected a tensor [2]; is this a checkpoint of another model?");
  EXPECT_THAT(message_of([&] {
                weights.get("b.w", {3, 2});
              }),
              HasSubstr("here: a.b.w: has the wrong shape; expected [3, 2], got [2, 3]"));
  EXPECT_THAT(message_of([&] { weights.find("b.w", {3, 2}); }), HasSubstr("wrong shape"));
}

TEST(WeightsTest, NaNIsRefusedAndInfinityIsNot) {
  const at::Tensor nan = at::full({3}, NAN, at::kBFloat16), infinite = at::full({3}, INFINITY);
  const Weights weights = Weights::from({{"nan", nan}, {"infinite", infinite}, {"empty", at::empty({0})}}, "here");
  EXPECT_THAT(message_of([&] { weights.get("nan", {3}); }), HasSubstr("here: nan: holds NaN"));
  EXPECT_EQ(weights.get("infinite", {3}).numel(), 3);
  EXPECT_EQ(weights.get("empty", {0}).numel(), 0);
  EXPECT_EQ(weights.stored("nan").numel(), 3);
}

TEST(WeightsTest, AQuantisedOrComplexTensorIsRefusedByName) {
  const Weights weights = Weights::from({{"q", at::zeros({2}, at::kChar)}, {"z", at::zeros({2}, at::kComplexFloat)}}, "here");
  EXPECT_THAT(message_of([&] { weights.get("q", {2}); }),
              HasSubstr("here: q: is stored in a form that is not run; expected floating-point numbers, got Char"));
  EXPECT_THAT(message_of([&] { weights.get("z", {2}); }), HasSubstr("got ComplexFloat"));
  auto report = std::make_shared<Weights::Report>();
  weights.collecting(report).get("q", {2});
  EXPECT_THAT(report->misshapen, ElementsAre("q: expected floating-point numbers, got Char"));
}

TEST(WeightsTest, UnusedListsWhatNobodyAskedFor) {
  const Weights weights = small();
  EXPECT_THAT(weights.unused(), ElementsAre("a.b.n", "a.b.w", "c"));
  weights.sub("a").get("b.w", {2, 3});
  EXPECT_THAT(weights.unused(), ElementsAre("a.b.n", "c"));
  weights.ignore("a");
  EXPECT_THAT(weights.sub("a").unused(), ElementsAre("c"));
  weights.find("c", {1});
  EXPECT_THAT(weights.unused(), IsEmpty());
}

TEST(WeightsTest, CollectingNotesInsteadOfThrowingAndReadsNothing) {
  auto report = std::make_shared<Weights::Report>();
  const Weights weights = small().to(at::kFloat).collecting(report);
  EXPECT_TRUE(weights.get("c", {1}).is_meta());
  EXPECT_TRUE(weights.sub("a").get("gone", {7}).is_meta());
  EXPECT_EQ(weights.get("a.b.w", {3, 3}).sizes(), at::IntArrayRef({3, 3}));
  EXPECT_FALSE(weights.find("also gone", {7}).defined());
  EXPECT_EQ(weights.device(), at::kMeta);
  EXPECT_THAT(report->missing, ElementsAre("a.gone"));
  EXPECT_THAT(report->misshapen, ElementsAre("a.b.w: expected [3, 3], got [2, 3]"));
  EXPECT_THAT(weights.unused(), ElementsAre("a.b.n"));
}

TEST(WeightsTest, RenamedViewsMoveNames) {
  const Weights weights = small().sub("a").renamed({{"q.weight", "b.w"}});
  EXPECT_TRUE(weights.has("q.weight"));
  EXPECT_FALSE(weights.has("b.w"));
  EXPECT_THAT(weights.names(), ElementsAre("b.n", "q.weight"));
  EXPECT_TRUE(weights.sub("q").has("weight"));
  const Weights twice = weights.renamed({{"z", "q.weight"}});
  EXPECT_EQ(twice.get("z", {2, 3}).numel(), 6);
  weights.ignore("q.weight");
  EXPECT_THAT(weights.unused(), ElementsAre("a.b.n", "c"));
}

TEST(WeightsTest, AWrapperIsStrippedAndMayStillBeAskedFor) {
  TemporaryFolder folder;
  save_safetensors(folder / "a.safetensors", {{"module.model.x.w", at::ones({1})}, {"module.model.y", at::ones({2})}});
  const Weights weights = Weights::open(folder / "a.safetensors");
  EXPECT_THAT(weights.names(), ElementsAre("x.w", "y"));
  EXPECT_EQ(weights.get("y", {2}).numel(), 2);
  const Weights wrapped = weights.sub("module.model");
  EXPECT_TRUE(weights.has_prefix("module"));
  EXPECT_THAT(wrapped.names(), ElementsAre("x.w", "y"));
  EXPECT_EQ(wrapped.sub("x").get("w", {1}).numel(), 1);
  EXPECT_THAT(weights.unused(), IsEmpty());
}

TEST(WeightsTest, OnlyACommonWrapperIsStripped) {
  using weights_detail::find_wrappers;
  EXPECT_EQ(find_wrappers({"model.a", "other"}).common, "");
  EXPECT_EQ(find_wrappers({"net.a", "net._extra_state"}).common, "net.");
  EXPECT_THAT(find_wrappers({"net.a", "net._extra_state"}).hidden, ElementsAre("net._extra_state"));
  const auto averaged = find_wrappers({"module.net.a", "module.net_ema.a"});
  EXPECT_EQ(averaged.common, "module.net.");
  EXPECT_THAT(averaged.hidden, ElementsAre("module.net_ema.a"));
  EXPECT_EQ(find_wrappers({"net_ema.a", "net_ema.b"}).common, "net_ema.");
  EXPECT_EQ(find_wrappers({"model."}).common, "");
  EXPECT_EQ(find_wrappers({}).common, "");
}

TEST(WeightsTest, AComponentFolderIsFoundUnderItsUsualNames) {
  TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("holds no weights"));
  save_safetensors(folder / "any.safetensors", {{"any", at::ones({1})}});
  EXPECT_THAT(Weights::open(folder.path()).names(), ElementsAre("any"));
  save_safetensors(folder / "two.safetensors", {{"two", at::ones({1})}});
  EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("any.safetensors, two.safetensors"));
  save_safetensors(folder / "model.safetensors", {{"m", at::ones({1})}});
  EXPECT_THAT(Weights::open(folder.path()).names(), ElementsAre("m"));
  EXPECT_THAT(message_of([&] { Weights::open(folder / "gone.pt"); }), HasSubstr("cannot be read (No such file"));
}

TEST(WeightsTest, ShardsAreReadAsOneAndAMissingOneIsNamed) {
  TemporaryFolder folder;
  const char* index =
      R"({"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}})";
  write_file(folder / "model.safetensors.index.json", index);
  save_safetensors(folder / "m-1.safetensors", {{"a", at::ones({1})}, {"c", at::ones({3})}});
  EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("lacks 1 of its 2 shards: m-2.safetensors"));
  save_safetensors(folder / "m-2.safetensors", {{"x", at::ones({2})}});
  EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("m-2.safetensors holds b, and it does not"));
  save_safetensors(folder / "m-2.safetensors", {{"b", at::ones({2})}});
  const Weights weights = Weights::open(folder / "model.safetensors.index.json");
  EXPECT_THAT(weights.names(), ElementsAre("a", "b", "c"));
  EXPECT_EQ(weights.get("c", {3}).numel(), 3);
}

TEST(WeightsTest, AnIndexMayNotReachOutOfItsFolder) {
  TemporaryFolder folder;
  for (const char* name : {"../x.safetensors", "/x.safetensors", "..", ""}) {
    write_file(folder / "model.safetensors.index.json", std::string(R"({"weight_map": {"a": ")") + name + "\"}}");
    EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("outside its folder"));
  }
  for (const char* text : {"", "{}", "[]", R"({"weight_map": {}})", R"({"weight_map": {"a": 3}})"}) {
    write_file(folder / "model.safetensors.index.json", text);
    EXPECT_THAT(message_of([&] { Weights::open(folder.path()); }), HasSubstr("model.safetensors.index.json")) << text;
  }
}

}  // namespace
}  // namespace orrery

#include "orrery/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "support/errors.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string message_of(const std::function<void()>& work) {
  return testing::error_of(work, ErrorKind::kConfig);
}

TEST(ConfigTest, ReadsEveryType) {
  const Config config = Config::parse(
      R"({"b": true, "i": -3, "d": 0.5, "s": "x", "bs": [true], "is": [1, 2], "ds": [1, 2.5], "ss": ["a"], "n": null})",
      "c.json");
  EXPECT_EQ(config.get("b", false), true);
  EXPECT_EQ(config.get<int64_t>("i", 0), -3);
  EXPECT_EQ(config.require<double>("d"), 0.5);
  EXPECT_EQ(config.get<double>("i", 0), -3.0);
  EXPECT_EQ(config.require<std::string>("s"), "x");
  EXPECT_THAT(config.require<std::vector<bool>>("bs"), ElementsAre(true));
  EXPECT_THAT(config.require<std::vector<int64_t>>("is"), ElementsAre(1, 2));
  EXPECT_THAT(config.require<std::vector<double>>("ds"), ElementsAre(1, 2.5));
  EXPECT_THAT(config.require<std::vector<std::string>>("ss"), ElementsAre("a"));
  EXPECT_FALSE(config.has("n"));
  EXPECT_EQ(config.get<int64_t>("n", 7), 7);
  EXPECT_EQ(config.find<int64_t>("absent"), std::nullopt);
  EXPECT_TRUE(config.is_array("is"));
}

TEST(ConfigTest, WrongTypeNamesFileKeyAndValue) {
  const Config config =
      Config::parse(R"({"a": "4", "b": 1.0, "c": [1, "x"], "d": 18446744073709551615})", "vae/config.json");
  EXPECT_EQ(message_of([&] { config.get<int64_t>("a", 1); }),
            "config: vae/config.json: a: has the wrong type; expected an integer, got \"4\"");
  EXPECT_THAT(message_of([&] { config.get<int64_t>("b", 1); }), HasSubstr("expected an integer, got 1.0"));
  EXPECT_THAT(message_of([&] { config.require<std::vector<int64_t>>("c"); }), HasSubstr("an array, each item an integer"));
  EXPECT_THAT(message_of([&] { config.require<int64_t>("d"); }), HasSubstr("expected an integer"));
  EXPECT_THAT(message_of([&] { config.require<bool>("z"); }), HasSubstr("z: is missing; expected true or false"));
  EXPECT_THAT(message_of([&] { config.object("a"); }), HasSubstr("expected an object"));
  EXPECT_THAT(message_of([&] { config.objects("c"); }), HasSubstr("expected an array of objects"));
}

TEST(ConfigTest, AValueThatDoesNotFitIsNamed) {
  const Config config = Config::parse(R"({"heads": 3, "sizes": [1, 2]})", "config.json");
  config.check(true, "heads", "an even number");
  EXPECT_EQ(message_of([&] { config.check(false, "heads", "an even number"); }),
            "config: config.json: heads: does not fit; expected an even number, got 3");
  EXPECT_THAT(message_of([&] { config.check(false, "sizes", "three numbers"); }), HasSubstr("got [1,2]"));
  EXPECT_THAT(message_of([&] { config.check(false, "width", "a number above 0"); }), HasSubstr("got nothing"));
}

TEST(ConfigTest, RefusesWhatIsNoObject) {
  EXPECT_THAT(message_of([] { Config::parse("{", "c"); }), HasSubstr("is no valid JSON"));
  EXPECT_THAT(message_of([] { Config::parse("[1]", "c"); }), HasSubstr("expected a JSON object, got [1]"));
  EXPECT_THAT(message_of([] { Config::parse(std::string(100000, '['), "c"); }), HasSubstr("nested too deeply"));
  EXPECT_THAT(message_of([] { Config::load("/nowhere/config.json"); }), HasSubstr("/nowhere/config.json: cannot be read"));
}

TEST(ConfigTest, NamesUnreadKeysOfInnerObjectsToo) {
  const Config config =
      Config::parse(R"({"_class_name": "A", "a": 1, "b": 2, "in": {"x": 1, "y": 2}, "list": [{"p": 1}, {"p": 2}]})", "c");
  config.require<int64_t>("a");
  const Config inner = config.object("in");
  inner.require<int64_t>("x");
  config.objects("list").at(0).require<int64_t>("p");
  EXPECT_THAT(config.unread(), ElementsAre("b", "in.y", "list.p"));
  EXPECT_EQ(inner.place(), "c: in");
}

TEST(ConfigTest, WithAddsAKeyAndLeavesTheOriginal) {
  const Config config;
  const Config more = config.with("n", 3).with("name", "x").with("inner", Config().with("deep", true));
  EXPECT_FALSE(config.has("n"));
  EXPECT_EQ(more.require<int64_t>("n"), 3);
  EXPECT_EQ(more.require<std::string>("name"), "x");
  EXPECT_TRUE(more.object("inner").require<bool>("deep"));
  EXPECT_EQ(more.dump(), R"({"inner":{"deep":true},"n":3,"name":"x"})");
}

}  // namespace
}  // namespace orrery

#include "orrery/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/errors.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class LogTest : public ::testing::Test {
 protected:
  LogTest() : level_(log_level()) {
    set_log_sink([this](LogLevel level, std::string_view message) { said_.emplace_back(level, message); });
  }
  ~LogTest() override {
    set_log_sink({});
    set_log_level(level_);
  }

  LogLevel level_;
  std::vector<std::pair<LogLevel, std::string>> said_;
};

TEST_F(LogTest, TheProgramsSinkGetsWhatItsLevelLetsThrough) {
  ::testing::internal::CaptureStderr();
  set_log_level(LogLevel::kInfo);
  log(LogLevel::kDebug, "not this");
  log(LogLevel::kInfo, "100 % of {} %s");  // taken as it is, never as a format
  log(LogLevel::kError, "that too");
  set_log_level(LogLevel::kOff);
  log(LogLevel::kError, "nor this");
  EXPECT_THAT(said_, ElementsAre(Pair(LogLevel::kInfo, "100 % of {} %s"), Pair(LogLevel::kError, "that too")));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(LogTest, WithoutASinkStderrIsUsedAgain) {
  set_log_level(LogLevel::kWarning);
  ::testing::internal::CaptureStderr();
  set_log_sink({});
  log(LogLevel::kWarning, "look here");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("[orrery] warning: look here\n"));
  EXPECT_TRUE(said_.empty());
}

TEST_F(LogTest, TheSinkMayBeReplacedWhileOthersSpeak) {
  set_log_level(LogLevel::kInfo);
  int64_t heard = 0;  // the library calls one at a time
  const LogSink count = [&](LogLevel, std::string_view) { ++heard; };
  set_log_sink(count);
  std::vector<std::thread> speakers;
  for (int i = 0; i < 2; ++i)
    speakers.emplace_back([] {
      for (int n = 0; n < 2000; ++n) log(LogLevel::kInfo, "x");
    });
  for (int n = 0; n < 200; ++n) set_log_sink(count);
  for (std::thread& speaker : speakers) speaker.join();
  EXPECT_EQ(heard, 4000);
}

TEST_F(LogTest, LevelsHaveNames) {
  for (const auto& [name, level] : {std::pair{"trace", LogLevel::kTrace}, {"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo},
                                    {"warning", LogLevel::kWarning}, {"error", LogLevel::kError}, {"off", LogLevel::kOff}}) {
    set_log_level(parse_log_level(name));
    EXPECT_EQ(log_level(), level) << name;
  }
  EXPECT_THAT(testing::error_of([] { parse_log_level("loud"); }), HasSubstr("one of trace, debug, info, warning, error, off"));
}

// A process of its own, since the variable is read once.
TEST(LogDeathTest, TheEnvironmentSetsTheFirstLevel) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ::setenv("ORRERY_LOG", "debug", 1);
  EXPECT_EXIT(std::exit(log_level() == LogLevel::kDebug ? 0 : 1), ::testing::ExitedWithCode(0), "");
  ::setenv("ORRERY_LOG", "loud", 1);
  EXPECT_EXIT(std::exit(log_level() == LogLevel::kWarning ? 0 : 1), ::testing::ExitedWithCode(0), "ORRERY_LOG is ignored");
  ::unsetenv("ORRERY_LOG");
}

}  // namespace
}  // namespace orrery

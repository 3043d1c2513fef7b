// Two pieces of work at the same time, and what happens where they cannot be.
#include "ops/beside.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace orrery::ops {
namespace {

class RunBesideTest : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(2); }
  void TearDown() override { at::set_num_threads(threads_); }
  const int threads_ = at::get_num_threads();
};

// Waits at most ten seconds.
bool becomes_true(const std::atomic<bool>& flag) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!flag && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  return flag;
}

TEST_F(RunBesideTest, BothRunAtTheSameTime) {
  for (int i = 0; i < 100; ++i) {
    std::atomic<bool> here = false, beside = false;
    run_beside(
        [&] {
          here = true;
          EXPECT_TRUE(becomes_true(beside));  // in turn, this would wait in vain
        },
        [&] {
          beside = true;
          EXPECT_TRUE(becomes_true(here));
        });
  }
}

TEST_F(RunBesideTest, WithOneThreadTheyRunInTurn) {
  at::set_num_threads(1);
  std::string order;
  const std::thread::id caller = std::this_thread::get_id();
  run_beside([&] { order += "here "; },
             [&] {
               order += "beside";
               EXPECT_EQ(std::this_thread::get_id(), caller);
             });
  EXPECT_EQ(order, "here beside");
}

TEST_F(RunBesideTest, EachPieceRunsOnceHoweverShortTheyAre) {
  int here = 0;
  std::atomic<int> beside = 0;
  for (int i = 0; i < 4000; ++i) {  // what is done here takes as long as the other thread needs to wake, more or less
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(i % 80);
    const auto busy = [&] {
      ++here;
      while (std::chrono::steady_clock::now() < end) {
      }
    };
    run_beside(busy, [&] { ++beside; });
    ASSERT_EQ(here, i + 1);
    ASSERT_EQ(beside, i + 1);  // and has ended
  }
}

TEST_F(RunBesideTest, SomebodyElseWhoHasWorkDoesBothHimself) {
  std::atomic<bool> begun = false, done = false;
  std::thread other([&] {
    run_beside([&] { EXPECT_TRUE(becomes_true(done)); },
               [&] {
                 begun = true;
                 EXPECT_TRUE(becomes_true(done));
               });
  });
  EXPECT_TRUE(becomes_true(begun));
  int count = 0;
  run_beside([&] { ++count; }, [&] { ++count; });
  EXPECT_EQ(count, 2);
  done = true;
  other.join();
}

TEST_F(RunBesideTest, WhatIsThrownArrives) {
  std::atomic<bool> begun = false;
  const auto fails = [&] {
    begun = true;
    throw std::runtime_error("beside");
  };
  EXPECT_THROW(run_beside([&] { becomes_true(begun); }, fails), std::runtime_error);  // in the other thread
  EXPECT_THROW(run_beside([] {}, fails), std::runtime_error);                          // in either
  EXPECT_THROW(run_beside([] { throw std::logic_error("here"); }, fails), std::logic_error);
  int count = 0;
  run_beside([&] { ++count; }, [&] { ++count; });  // and is forgotten
  EXPECT_EQ(count, 2);
}

}  // namespace
}  // namespace orrery::ops

// A steady step recorded as a graph. The device's graphs are those of tests/support/far_graph.h, which mean what CUDA's
// mean; with ORRERY_FAR_DEVICE=cuda they are CUDA's.
#include "layers/steady_graph.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "layers/norm.h"
#include "ops/cuda_library.h"
#include "orrery/log.h"
#include "support/compare.h"
#include "support/far_device.h"

namespace orrery::layers {
namespace {

using Tensors = SteadyGraph::Tensors;

class SteadyGraphTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* real = std::getenv("ORRERY_FAR_DEVICE");
    try {
      device_ = testing::far_device();
    } catch (const c10::Error& error) {
      GTEST_SKIP() << "there is no NVIDIA GPU on this machine: " << error.what_without_backtrace();
    }
    if (real && !at::hasCUDA()) GTEST_SKIP() << "there is no NVIDIA GPU on this machine";
    ASSERT_TRUE(!real || ops::load_cuda_graphs()) << "liborrery_cuda_graph.so is not found: LD_LIBRARY_PATH";
    set_log_level(LogLevel::kWarning);
    set_log_sink([this](LogLevel, std::string_view message) { said_.emplace_back(message); });
    at::manual_seed(4);
    weight_ = at::randn({6, 6}).to(device_);
  }
  void TearDown() override {
    set_log_sink({});
    set_log_level(level_);
  }
  static at::Tensor row(int64_t rows = 3) { return at::randn({rows, 6}); }
  // Products, a norm (one of our kernels), something in place, a constant.
  Tensors work(const Tensors& in) const {
    at::Tensor x = layer_norm(at::matmul(in[0], weight_), 1e-6);
    x = at::gelu_(x) + at::full({1, 6}, 0.25, x.options());
    return {x * in[1], at::cat({x, in[0]}, 0)};
  }
  void expect_the_work(const SteadyGraph& graph, const Tensors& in) const {
    const Tensors expected = work({in[0].to(device_), in[1].to(device_)}), got = graph(in);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_TRUE(testing::is_close(got[i].cpu(), expected[i].cpu(), testing::kSameMath));
  }
  void expect_counts(const SteadyGraph& graph, int64_t recorded, int64_t replayed, int64_t called) const {
    const SteadyGraph::Counts did = graph.counts();
    EXPECT_EQ(did.recorded, recorded);
    EXPECT_EQ(did.replayed, replayed);
    EXPECT_EQ(did.called, called);
  }

  at::Device device_ = at::kCPU;
  at::Tensor weight_;
  std::vector<std::string> said_;

 private:
  LogLevel level_ = log_level();
};

TEST_F(SteadyGraphTest, IsRecordedOnceOnAnotherDevice) {
  int calls = 0;
  const SteadyGraph graph("test", device_, [&](const Tensors& in) { return ++calls, work(in); });
  for (int i = 0; i < 5; ++i) expect_the_work(graph, {row(), row(1)});
  EXPECT_EQ(calls, 2) << "called and recorded once, then replayed";
  expect_counts(graph, 1, 3, 1);
  EXPECT_TRUE(said_.empty());
}

TEST_F(SteadyGraphTest, OtherShapesAreRecordedAnewOnAnotherDevice) {
  const SteadyGraph graph("test", device_, [&](const Tensors& in) { return work(in); });
  for (const int64_t rows : {3, 3, 3, 5, 3, 5, 5, 5, 3}) expect_the_work(graph, {row(rows), row(1)});
  // 3: called, recorded, replayed; 5: called; 3 again: replayed; 5, 5: recorded, replayed…; 3: called, the graph is of 5.
  expect_counts(graph, 2, 4, 3);
  expect_the_work(graph, {row(), row(1)});
  expect_counts(graph, 3, 4, 3);
}

// Results are the caller's: the next step leaves them alone.
TEST_F(SteadyGraphTest, ResultsAreTheCallersOnAnotherDevice) {
  const SteadyGraph graph("test", device_, [&](const Tensors& in) { return work(in); });
  for (int i = 0; i < 2; ++i) graph({row(), row(1)});
  const at::Tensor first = graph({row(), row(1)})[0], copy = first.clone();
  graph({row(), row(1)});
  EXPECT_TRUE(first.equal(copy));
}

TEST_F(SteadyGraphTest, ThreadsTakeTurnsOnAnotherDevice) {
  const SteadyGraph graph("test", device_, [&](const Tensors& in) { return Tensors{in[0] * 2}; });
  std::vector<std::thread> threads;
  std::array<int, 2> wrong = {};
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const double mine = static_cast<double>(100 * t) + i;
        wrong[t] += graph({at::full({7}, mine)})[0].cpu().ne(2 * mine).any().item<bool>();
      }
    });
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(wrong, (std::array<int, 2>{}));
  EXPECT_GT(graph.counts().replayed, 30);
}

TEST_F(SteadyGraphTest, NeitherStepNorReplayWaitsForTheHost) {
  if (std::getenv("ORRERY_FAR_DEVICE")) GTEST_SKIP() << "a GPU's waits are not counted";
  const SteadyGraph graph("test", device_, [&](const Tensors& in) { return work(in); });
  for (int i = 0; i < 2; ++i) graph({row(), row(1)});
  testing::take_far_streams();
  for (int i = 0; i < 3; ++i) graph({row(), row(1)});
  const testing::FarStreams did = testing::take_far_streams();
  EXPECT_EQ(did.host_waits, 0);
  EXPECT_EQ(did.races, 0);
  EXPECT_GT(did.uploaded_pinned, 0);
  EXPECT_EQ(did.uploaded_pageable, 0);
}

// What asks the host cannot be recorded: it is told once, and the step goes on as it did.
TEST_F(SteadyGraphTest, WhatCannotBeRecordedIsCalledOnAnotherDevice) {
  const SteadyGraph graph("the test's step", device_, [&](const Tensors& in) {
    Tensors out = work(in);
    return in[1].max().item<float>() < 1e9F ? out : Tensors();
  });
  for (int i = 0; i < 4; ++i) expect_the_work(graph, {row(), row(1)});
  expect_counts(graph, 0, 0, 4);
  ASSERT_EQ(said_.size(), 1U);
  EXPECT_NE(said_[0].find("the test's step"), std::string::npos) << said_[0];
  EXPECT_EQ(said_[0].find('\n'), std::string::npos);
}

// A number of the host's is that of the recording for good: why all that changes must be an input.
TEST_F(SteadyGraphTest, AHostsNumberIsTheRecordings) {
  double number = 0;
  const SteadyGraph graph("test", device_, [&](const Tensors& in) { return Tensors{in[0] + number}; });
  std::vector<float> got;
  for (; number < 4; ++number) got.push_back(graph({at::zeros({1})})[0].item<float>());
  EXPECT_EQ(got, (std::vector<float>{0, 1, 1, 1}));
}

TEST_F(SteadyGraphTest, IsNotRecordedUnlessSteadyOrWanted) {
  const SteadyGraph graph("test", device_, [&](const Tensors& in) { return work(in); });
  for (int i = 0; i < 3; ++i) graph({row(), row(1)}, /*steady=*/false);
  expect_counts(graph, 0, 0, 3);
  setenv("ORRERY_CUDA_GRAPHS", "off", 1);
  const SteadyGraph off("test", device_, [&](const Tensors& in) { return work(in); });
  unsetenv("ORRERY_CUDA_GRAPHS");
  for (int i = 0; i < 3; ++i) expect_the_work(off, {row(), row(1)});
  expect_counts(off, 0, 0, 3);
}

TEST_F(SteadyGraphTest, OnTheProcessorItIsTheWork) {
  const SteadyGraph graph("test", at::kCPU, [](const Tensors& in) { return Tensors{in[0] + in[1]}; });
  const at::Tensor a = row(), b = row(1);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(graph({a, b})[0].equal(a + b));
  expect_counts(graph, 0, 0, 3);
}

}  // namespace
}  // namespace orrery::layers

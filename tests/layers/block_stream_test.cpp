#include "layers/block_stream.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/compare.h"
#include "support/far_device.h"

namespace orrery::layers {
namespace {

constexpr int64_t kBlocks = 5, kWidth = 160;

struct Block {
  at::Tensor weight;
};

// Blocks that are streamed to another device, or stand on the processor.
BlockStream<Block> stream_of(at::Device device) {
  at::manual_seed(4);
  TensorMap given;
  for (int64_t i = 0; i < kBlocks; ++i)
    given[std::to_string(i) + ".weight"] = (at::randn({kWidth, kWidth}) / 12).to(at::kBFloat16);
  const Config config = Config().with("_stream_from", std::string("no file"));
  return {config, Weights::from(given, "given").to(at::kFloat, device), kBlocks, [](const Weights& weights, int64_t i) {
            return Block{weights.sub(std::to_string(i)).get("weight", {kWidth, kWidth})};
          }};
}

at::Tensor through(const BlockStream<Block>& blocks, at::Tensor x) {
  blocks.for_each([&](const Block& block, size_t) { x = at::matmul(x, block.weight).tanh(); });
  return x;
}

// The next block comes while one is computed: by a second stream, out of memory that the device reads by itself, without the
// host waiting; and no stream touches, or gives back, what the other still uses.
TEST(BlockStreamTest, UploadsBesideTheWork) {
  const BlockStream<Block> far = stream_of(testing::far_device());
  at::Tensor x = at::randn({3, kWidth}), y = x.to(testing::far_device());
  testing::take_far_streams();
  for (int step = 0; step < 3; ++step) y = through(far, y);
  const testing::FarStreams did = testing::take_far_streams();
  const BlockStream<Block> near = stream_of(at::kCPU);
  for (int step = 0; step < 3; ++step) x = through(near, x);
  EXPECT_TRUE(testing::is_close(y.cpu(), x, testing::kSameMath));
  if (std::getenv("ORRERY_FAR_DEVICE")) GTEST_SKIP() << "a GPU's streams are not watched";
  EXPECT_EQ(did.races, 0);
  EXPECT_EQ(did.host_waits, 0);
  EXPECT_GE(did.beside, 3 * (kBlocks - 1)) << "of each step, all blocks but the first";
  EXPECT_EQ(did.uploaded_pinned, 3 * kBlocks * kWidth * kWidth * 2) << "as they are stored";
  EXPECT_EQ(did.uploaded_pageable, 0);
}

// A block that fails gives its memory back in order too.
TEST(BlockStreamTest, AFailureLeavesNoRace) {
  const BlockStream<Block> far = stream_of(testing::far_device());
  const at::Tensor x = at::randn({3, kWidth}).to(testing::far_device());
  testing::take_far_streams();
  EXPECT_THROW(far.for_each([&](const Block& block, size_t i) {
    at::matmul(x, block.weight);
    if (i == 2) throw std::runtime_error("it fails");
  }),
               std::runtime_error);
  EXPECT_EQ(through(far, x).sizes(), x.sizes());
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_streams().races, 0);
  }
}

}  // namespace
}  // namespace orrery::layers

#include "orrery/arrays.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "orrery/log.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

// Written by tests/weights/make_arrays.py.
std::filesystem::path file(const std::string& name) {
  return testing::source_root() / "tests/weights/files" / name;
}

at::Tensor expected() {
  return at::arange(30, at::kLong).reshape({2, 3, 5}) - 4;
}

std::string message_of(const std::filesystem::path& path) {
  return testing::error_of([&] { load_npy(path); });
}

TEST(ArraysTest, EveryOrderAndDtype) {
  EXPECT_TRUE(at::equal(load_npy(file("array_f32.npy")), expected().to(at::kFloat)));
  EXPECT_TRUE(at::equal(load_npy(file("array_i64_big.npy")), expected()));
  EXPECT_TRUE(at::equal(load_npy(file("array_fortran.npy")), expected().to(at::kDouble)));
  EXPECT_TRUE(load_npy(file("array_fortran.npy")).is_contiguous());
  EXPECT_TRUE(
      at::equal(load_npy(file("array_fortran_c64_big.npy")), expected().to(at::kComplexFloat) * c10::complex<float>(1, 2)));
  EXPECT_TRUE(at::equal(load_npy(file("array_bool.npy")), expected().remainder(2) == 0));
  EXPECT_EQ(load_npy(file("array_scalar.npy")).item<float>(), 2.5f);
  EXPECT_EQ(load_npy(file("array_empty.npy")).sizes(), at::IntArrayRef({0, 3}));
}

TEST(ArraysTest, WhatHoldsNoNumbersIsRefused) {
  EXPECT_THAT(message_of(file("array_objects.npy")), HasSubstr("unsupported: "));
  EXPECT_THAT(message_of(file("array_objects.npy")), HasSubstr("expected numbers or booleans, got dtype |O"));
  EXPECT_THAT(message_of(file("array_strings.npy")), HasSubstr("got dtype <U2"));
}

TEST(ArraysTest, ArchivesAreReadByName) {
  std::string warned;
  set_log_sink([&](LogLevel, std::string_view message) { warned = message; });
  const TensorMap plain = load_npz(file("arrays.npz"));
  set_log_sink({});
  EXPECT_THAT(warned, HasSubstr("left out arrays that hold no numbers: text"));
  for (const TensorMap& arrays : {plain, load_npz(file("arrays_compressed.npz"))}) {
    ASSERT_EQ(arrays.size(), 2u);
    EXPECT_TRUE(at::equal(arrays.at("a"), expected().to(at::kFloat)));
    EXPECT_TRUE(at::equal(arrays.at("b"), expected()[0].to(at::kByte)));
  }
}

TEST(ArraysTest, ATruncatedFileIsAnError) {
  testing::TemporaryFolder folder;
  const std::string whole = testing::read_file(file("array_f32.npy"));
  ASSERT_EQ(whole.size(), 128u + 120u);
  for (size_t size = 0; size < whole.size(); size += 5) {
    testing::write_file(folder / "a.npy", whole.substr(0, size));
    EXPECT_THAT(message_of(folder / "a.npy"), HasSubstr("weights: ")) << size;
  }
  const std::string archive = testing::read_file(file("arrays_compressed.npz"));
  for (size_t size = 0; size + 1 < archive.size(); size += 11) {
    testing::write_file(folder / "a.npz", archive.substr(0, size));
    EXPECT_THROW(load_npz(folder / "a.npz"), Error) << size;
  }
}

}  // namespace
}  // namespace orrery

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "support/errors.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

std::string file_of(std::string header, std::string data) {
  std::string text(8, '\0');
  for (int i = 0; i < 8; ++i) text[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return text + header + data;
}

std::string message_of(const std::string& content) {
  TemporaryFolder folder;
  write_file(folder / "a.safetensors", content);
  return testing::error_of([&] { load_safetensors(folder / "a.safetensors"); });
}

TEST(SafetensorsTest, EveryDtypeComesBackAsItWas) {
  TemporaryFolder folder;
  TensorMap tensors;
  for (const auto dtype :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kUInt16, at::kInt, at::kUInt32, at::kLong, at::kUInt64, at::kHalf,
        at::kBFloat16, at::kFloat, at::kDouble, at::kFloat8_e4m3fn, at::kFloat8_e5m2, at::kComplexFloat})
    tensors[std::string("t.") + c10::toString(dtype)] = at::arange(15, at::kFloat).reshape({3, 5}).to(dtype);
  tensors["scalar"] = at::scalar_tensor(2.5);
  tensors["empty"] = at::empty({0, 3});
  tensors["strided"] = at::arange(12, at::kFloat).reshape({3, 4}).t();
  save_safetensors(folder / "a.safetensors", tensors, {{"fps", "24"}, {"quoted \"key\"", "ü"}});
  const TensorMap back = load_safetensors(folder / "a.safetensors");
  ASSERT_EQ(back.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(back.contains(name)) << name;
    EXPECT_EQ(back.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(back.at(name).sizes(), tensor.sizes()) << name;
    const at::Tensor plain = tensor.contiguous();
    if (plain.numel() > 0) {  // an empty tensor may have no address
      EXPECT_EQ(std::memcmp(back.at(name).const_data_ptr(), plain.const_data_ptr(), plain.nbytes()), 0) << name;
    }
  }
  EXPECT_EQ(Weights::open(folder / "a.safetensors").metadata().at("fps"), "24");
  EXPECT_EQ(Weights::open(folder / "a.safetensors").metadata().at("quoted \"key\""), "ü");
}

TEST(SafetensorsTest, TensorsOutliveTheirSourceAndMayBeWrittenTo) {
  TemporaryFolder folder;
  save_safetensors(folder / "a.safetensors", {{"w", at::ones({1000})}});
  const std::string before = read_file(folder / "a.safetensors");
  at::Tensor w = load_safetensors(folder / "a.safetensors").at("w");
  w.add_(1);
  EXPECT_EQ(w.sum().item<float>(), 2000);
  EXPECT_EQ(read_file(folder / "a.safetensors"), before);
}

TEST(SafetensorsTest, UnalignedTensorsAreCopied) {
  TemporaryFolder folder;
  // The header is not padded, so the float32 data starts at an odd address.
  std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  while ((header.size() + 8) % 4 != 1) header += ' ';
  const float values[] = {1.5f, -2};
  write_file(folder / "a.safetensors", file_of(header, std::string(reinterpret_cast<const char*>(values), 8)));
  const at::Tensor w = load_safetensors(folder / "a.safetensors").at("w");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(w.const_data_ptr()) % 4, 0u);
  EXPECT_EQ(w[0].item<float>(), 1.5f);
  EXPECT_EQ(w[1].item<float>(), -2.f);
}

TEST(SafetensorsTest, AWriterThatFailsLeavesNothing) {
  TemporaryFolder folder;
  EXPECT_THROW(save_safetensors(folder / "no/a.safetensors", {{"w", at::ones({2})}}), Error);
  EXPECT_THROW(save_safetensors(folder / "a.safetensors", {{"w", at::Tensor()}}), Error);
  std::filesystem::create_directory(folder / "taken");
  try {
    save_safetensors(folder / "taken", {{"w", at::ones({2})}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
  }
  std::vector<std::string> left;
  for (const auto& item : std::filesystem::directory_iterator(folder.path())) left.push_back(item.path().filename());
  EXPECT_THAT(left, ElementsAre("taken"));
}

TEST(SafetensorsTest, WhatIsDownloadedInItsPlaceIsToldByName) {
  EXPECT_THAT(message_of("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"),
              HasSubstr("a.safetensors: is a pointer of Git LFS"));
  EXPECT_THAT(message_of("<!DOCTYPE html>\n<html><body>Not found</body></html>"), HasSubstr("is a web page"));
  EXPECT_THAT(message_of("Entry not found"), HasSubstr("is a text file"));
  EXPECT_THAT(message_of("No"), HasSubstr("is a text file"));
}

TEST(SafetensorsTest, ADamagedFileIsNamedAndRefused) {
  const std::string good =
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})";
  EXPECT_EQ(message_of(file_of(good, "12345")), "no error");
  EXPECT_THAT(message_of(file_of(good, "12")), HasSubstr("a.safetensors: is incomplete: 3 bytes are missing"));
  EXPECT_THAT(message_of(file_of(good, "123456")), HasSubstr("is longer than its tensors"));
  EXPECT_THAT(message_of(file_of(good, "12345").substr(0, 20)), HasSubstr("is incomplete"));
  EXPECT_THAT(message_of(""), HasSubstr("is incomplete: 8 bytes are missing"));
  EXPECT_THAT(message_of(std::string(16, '\xff')), HasSubstr("impossible header length"));
  EXPECT_THAT(message_of(std::string("\x02\0\0\0\0\0\0\0[]", 10)), HasSubstr("no JSON object"));
  EXPECT_THAT(message_of(file_of("{]", "")), HasSubstr("no valid JSON"));
  EXPECT_THAT(
      message_of(file_of(
          R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})",
          "1234")),
      HasSubstr("b: overlaps another tensor"));
  EXPECT_THAT(message_of(file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", "123")),
              HasSubstr("leaves a hole"));
  EXPECT_THAT(message_of(file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,3]}})", "123")),
              HasSubstr("data_offsets that do not fit its shape; expected 2 bytes, got 3"));
  EXPECT_THAT(
      message_of(file_of(
          R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
          "1")),
      HasSubstr("a: stands twice"));
  EXPECT_THAT(message_of(file_of(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", "1")), HasSubstr("got F4"));
  EXPECT_THAT(message_of(file_of(R"({"a":{"dtype":"U8","shape":[-2],"data_offsets":[0,1]}})", "1")),
              HasSubstr("no list of sizes"));
  EXPECT_THAT(message_of(file_of(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "")),
              HasSubstr("impossibly large"));
  EXPECT_THAT(message_of(file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", "12")),
              HasSubstr("impossible data_offsets"));
  EXPECT_THAT(message_of(file_of(R"({"a":3})", "")), HasSubstr("a: is not described"));
  EXPECT_THAT(message_of(file_of(R"({"a":[[[[[[[]]]]]]]})", "")), HasSubstr("nested too deeply"));
}

}  // namespace
}  // namespace orrery

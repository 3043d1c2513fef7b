#include "weights/torch_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

// Written by tests/weights/make_torch_files.py, with what torch itself says is in them.
std::filesystem::path file(const std::string& name) {
  return testing::source_root() / "tests/weights/files" / name;
}

std::string message_of(const std::filesystem::path& path) {
  return testing::error_of([&] {
    const Weights weights = Weights::open(path);
    for (const auto& name : weights.names()) weights.stored(name);
  });
}

class TorchFileTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchFileTest, HoldsWhatTorchLoads) {
  const std::string name = GetParam();
  const Weights weights = Weights::open(file(name));
  const TensorMap expected = load_safetensors(file(name.substr(0, name.find('.')) + ".expected.safetensors"));
  std::vector<std::string> names;
  for (const auto& [key, tensor] : expected) names.push_back(key);
  EXPECT_EQ(weights.names(), names);
  for (const auto& [key, tensor] : expected) {
    const at::Tensor got = weights.stored(key).contiguous();
    ASSERT_EQ(got.sizes(), tensor.sizes()) << key;
    EXPECT_EQ(got.scalar_type(), tensor.scalar_type()) << key;
    ASSERT_EQ(got.nbytes(), tensor.nbytes()) << key;
    if (tensor.numel() > 0) {  // an empty tensor may have no address
      EXPECT_EQ(std::memcmp(got.const_data_ptr(), tensor.const_data_ptr(), tensor.nbytes()), 0) << key;
    }
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got.const_data_ptr()) % got.element_size(), 0u) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryForm, TorchFileTest,
                         ::testing::Values("zip.pt", "protocol4.pt", "deflated.pt", "legacy.pt", "tar.pt", "training.pt",
                                           "wrapped.pt", "parts.pt", "lone.pt", "whole.pt", "whole_legacy.pt", "cuda.pt",
                                           "scripted.jit", "traced.jit"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST(TorchFileTest, StoredTensorsLieInTheMap) {
  const Weights weights = Weights::open(file("zip.pt"));
  EXPECT_EQ(weights.stored("shared").const_data_ptr(), weights.stored("transposed").const_data_ptr());
  EXPECT_FALSE(weights.stored("transposed").is_contiguous());
}

TEST(TorchFileTest, AHostilePickleIsRefusedByName) {
  EXPECT_THAT(message_of(file("hostile.pt")),
              AllOf(HasSubstr("weights: "), HasSubstr("hostile.pt: is a pickle that names os.system")));
  EXPECT_THAT(message_of(file("hostile_eval.pt")), HasSubstr("names builtins.eval"));
  TemporaryFolder folder;
  // Inside the legacy form, whose first pickle must be the magic number.
  const std::string legacy = read_file(file("legacy.pt"));
  write_file(folder / "a.pt", legacy.substr(0, 15) + read_file(file("hostile_protocol0.pt")));
  EXPECT_THAT(message_of(folder / "a.pt"), HasSubstr("names subprocess.check_output"));
}

TEST(TorchFileTest, ATruncatedFileIsAnErrorWhereverItEnds) {
  TemporaryFolder folder;
  for (const char* name : {"zip.pt", "legacy.pt", "tar.pt", "deflated.pt"}) {
    const std::string whole = read_file(file(name));
    ASSERT_GT(whole.size(), 1000u);
    for (size_t size = 0; size + 1 < whole.size(); size += 97) {
      // The padding after the last member of a tar carries nothing.
      if (std::string(name) == "tar.pt" && size > whole.size() - 10240 + 512) break;
      write_file(folder / "a.pt", whole.substr(0, size));
      EXPECT_THAT(message_of(folder / "a.pt"), HasSubstr("a.pt")) << name << " cut at " << size;
    }
  }
}

TEST(TorchFileTest, TensorsMustLieInTheirStorage) {
  using namespace weights_detail;
  const auto message = [](StoredTensor tensor, int64_t elements) {
    return testing::error_of([&] { check_bounds(tensor, elements, "t"); });
  };
  const Extent extent{.begin = 0, .stored = 48, .size = 48};
  const auto tensor = [&](std::vector<int64_t> shape, std::vector<int64_t> strides, int64_t offset) {
    return StoredTensor{.shape = shape, .strides = strides, .offset = offset, .storage = extent};
  };
  EXPECT_EQ(message(tensor({3, 4}, {4, 1}, 0), 12), "no error");
  EXPECT_EQ(message(tensor({4, 3}, {1, 4}, 0), 12), "no error");
  EXPECT_EQ(message(tensor({0, 3}, {9, 9}, 12), 12), "no error");
  EXPECT_THAT(message(tensor({3, 4}, {4, 1}, 1), 12), HasSubstr("outside its storage"));
  EXPECT_THAT(message(tensor({3, 4}, {4, 1}, -1), 12), HasSubstr("outside its storage"));
  EXPECT_THAT(message(tensor({3, 4}, {4, 1}, 0), 13), HasSubstr("fewer bytes"));
  EXPECT_THAT(message(tensor({3, 4}, {-4, 1}, 11), 12), HasSubstr("impossible strides"));
  EXPECT_THAT(message(tensor({3, 1 << 30}, {INT64_MAX / 2, INT64_MAX / 2}, 0), 12), HasSubstr("impossible strides"));
  EXPECT_THAT(message(tensor({INT64_MAX, 4}, {0, 0}, 0), 12), HasSubstr("impossible shape"));
  EXPECT_THAT(message(tensor({3}, {4, 1}, 0), 12), HasSubstr("impossible shape"));
}

TEST(TorchFileTest, ASafetensorsHeaderThatBeginsLikeAPickleIsNotMistaken) {
  std::string text(709, ' ');
  text.replace(0, 9, std::string("\x80\x02\0\0\0\0\0\0{", 9));
  EXPECT_FALSE(weights_detail::looks_like_torch({reinterpret_cast<const std::byte*>(text.data()), text.size()}));
}

}  // namespace
}  // namespace orrery

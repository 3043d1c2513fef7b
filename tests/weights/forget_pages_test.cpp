#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "layers/linear.h"
#include "orrery/weights.h"
#include "support/temporary.h"
#include "weights/file.h"

namespace orrery {
namespace {

// KiB of this file that lie in this process's memory.
int64_t resident_kib(const std::string& path) {
  std::ifstream maps("/proc/self/smaps");
  int64_t kib = 0;
  bool ours = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) ours = line.find(path) != std::string::npos;
    if (ours && line.starts_with("Rss:")) kib += std::stoll(line.substr(4));
  }
  return kib;
}

// Four megabytes in a file, all of which was read.
class ForgetPagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    save_safetensors(path, {{"numbers", numbers}});
    mapped = Weights::open(path).stored("numbers");
    EXPECT_TRUE(mapped.equal(numbers));
  }

  const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder / "big.safetensors";
  const at::Tensor numbers = at::arange(1 << 20).to(at::kFloat);
  at::Tensor mapped;
};

TEST_F(ForgetPagesTest, MemoryIsGivenBackAndTheNumbersStay) {
  EXPECT_GT(resident_kib(path.string()), 3000);
  weights_detail::forget_pages(path);
  EXPECT_LT(resident_kib(path.string()), 100);
  EXPECT_TRUE(mapped.equal(numbers));
  weights_detail::forget_pages(folder / "other.safetensors");
  EXPECT_GT(resident_kib(path.string()), 3000) << "another file's name touches nothing";
  weights_detail::forget_pages(path.parent_path());
  EXPECT_LT(resident_kib(path.string()), 100) << "the folder stands for all of its files";
}

TEST_F(ForgetPagesTest, APartOfAFileIsGivenBackAlone) {
  const auto bytes_of = [](const at::Tensor& t) {
    return weights_detail::Bytes{static_cast<const std::byte*>(t.const_data_ptr()), t.nbytes()};
  };
  weights_detail::forget_pages(bytes_of(mapped.narrow(0, 1000, 1 << 19)));
  EXPECT_GT(resident_kib(path.string()), 1900);
  EXPECT_LT(resident_kib(path.string()), 2300);
  EXPECT_TRUE(mapped.equal(numbers));
  weights_detail::forget_pages(bytes_of(numbers));
  EXPECT_TRUE(mapped.equal(numbers)) << "memory that is no file stays as it is";
  EXPECT_EQ(numbers[5].item<float>(), 5);
}

// A matrix that is kept in another form leaves none of its file in memory; one that is used as it lies stays there.
TEST(ForgetPagesFormTest, AMatrixInAnotherFormGivesItsFileBack) {
  for (const WeightForm form : {WeightForm::kFloat32, WeightForm::kBFloat16, WeightForm::kInt8}) {
    const testing::TemporaryFolder folder;
    const std::filesystem::path path = folder / "matrix.safetensors";
    save_safetensors(path, {{"weight", at::ones({1024, 2048}, at::kBFloat16)}});
    const Weights weights = Weights::open(path);
    EXPECT_EQ(weights.stored("weight").sum().item<float>(), 1024 * 2048);
    EXPECT_GT(resident_kib(path.string()), 3000);
    const layers::Linear linear(weights, 2048, 1024, false, form);
    EXPECT_LT(resident_kib(path.string()), 100) << static_cast<int>(form);
    EXPECT_NEAR(linear(at::ones({1, 2048}))[0][0].item<float>(), 2048, 16);
  }
}

}  // namespace
}  // namespace orrery

#include "house/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "support/paths.h"
#include "support/temporary.h"

namespace orrery::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Rule = std::function<std::vector<std::string>(const std::string& path, const std::string& text)>;

// Applies a rule to every file of the source tree under one of `folders` with one of `extensions`; returns all breaches.
std::vector<std::string> breaches_of(const Rule& rule, const std::vector<std::string>& folders,
                                     const std::vector<std::string>& extensions) {
  std::vector<std::string> breaches;
  int files = 0;
  for (const auto& folder : folders) {
    if (!fs::exists(source_root() / folder)) continue;
    for (auto entry = fs::recursive_directory_iterator(source_root() / folder); entry != fs::end(entry); ++entry) {
      const std::string name = entry->path().filename().string();
      if (entry->is_directory() && (name == "build" || name == "__pycache__")) entry.disable_recursion_pending();
      const bool wanted = std::find(extensions.begin(), extensions.end(), entry->path().extension().string()) != extensions.end();
      if (!entry->is_regular_file() || !wanted) continue;
      std::ifstream file(entry->path());
      std::stringstream text;
      text << file.rdbuf();
      ++files;
      for (auto& breach : rule(fs::relative(entry->path(), source_root()).generic_string(), text.str()))
        breaches.push_back(std::move(breach));
    }
  }
  EXPECT_GT(files, 0) << "no file was looked at";
  return breaches;
}

const std::vector<std::string> kCode = {".h", ".cpp", ".cu", ".cuh"};
const std::vector<std::string> kRooms = {"include", "src", "kernels", "examples", "tests"};

TEST(HouseTest, EveryRoomIncludesOnlyWhatItMay) { EXPECT_THAT(breaches_of(include_breaches, kRooms, kCode), IsEmpty()); }

TEST(HouseTest, PublicHeadersAreClean) { EXPECT_THAT(breaches_of(public_header_breaches, {"include"}, kCode), IsEmpty()); }

TEST(HouseTest, PublicDeclarationsAreDocumented) {
  EXPECT_THAT(breaches_of(doc_comment_breaches, {"include"}, kCode), IsEmpty());
}

TEST(HouseTest, NoFileIsTooLong) {
  EXPECT_THAT(breaches_of(length_breaches, kRooms, {".h", ".cpp", ".cu", ".cuh", ".py"}), IsEmpty());
}

TEST(HouseTest, NoMachinePathsRegistriesOrUnfinishedNotes) {
  const std::vector<std::string> text = {".h",  ".cpp", ".cu",  ".cuh",   ".py", ".sh",   ".md",
                                         ".in", ".txt", ".json", ".cmake", ".map", ".html", ".js"};
  EXPECT_THAT(breaches_of(text_breaches, {"include", "src", "kernels", "examples", "tests", "cmake", "third_party", "docs", ".ci"},
                          text),
              IsEmpty());
}

TEST(HouseTest, EveryLinkOfThePagesLeadsSomewhere) {
  const auto exists = [](const std::string& path) { return fs::exists(source_root() / path); };
  const Rule rule = [&](const std::string& path, const std::string& text) { return link_breaches(path, text, exists); };
  EXPECT_THAT(breaches_of(rule, {"docs", "examples", "tests", "third_party"}, {".md"}), IsEmpty());
  for (const char* page : {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"})
    EXPECT_THAT(rule(page, read_file(source_root() / page)), IsEmpty());
}

// The rules themselves: each is shown a breach, and what is allowed.

TEST(IncludeRuleTest, FamiliesDoNotKnowEachOther) {
  EXPECT_THAT(include_breaches("src/models/wan/vae.cpp", "#include \"models/cosmos/fsq.h\"\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("src/models/wan/vae.cpp",
                               "#include \"models/wan/vae.h\"\n#include \"models/registry.h\"\n#include \"layers/conv.h\"\n"
                               "#include \"ops/norm.h\"\n#include \"orrery/weights.h\"\n#include <ATen/ATen.h>\n"),
              IsEmpty());
}

TEST(IncludeRuleTest, LowerRoomsDoNotLookUp) {
  EXPECT_THAT(include_breaches("src/layers/conv.h", "#include \"models/wan/vae.h\"\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("src/ops/norm.cpp", "#include \"layers/conv.h\"\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("src/models/wan/vae.cpp", "#include \"media/ffmpeg.h\"\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("src/sampling/flow.cpp", "#include \"models/registry.h\"\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("kernels/cpu/norm.cpp", "#include <ATen/ATen.h>\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("examples/quickstart.cpp", "#include \"weights/pickle.h\"\n"), SizeIs(1));
}

TEST(IncludeRuleTest, ForeignLibrariesStayInTheirRooms) {
  EXPECT_THAT(include_breaches("src/tokenizer.cpp", "#include <libavcodec/avcodec.h>\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("src/media/reader.cpp", "extern \"C\" {\n#include <libavcodec/avcodec.h>\n}\n"), IsEmpty());
  EXPECT_THAT(include_breaches("src/load.cpp", "#include <nlohmann/json.hpp>\n"), SizeIs(1));
  EXPECT_THAT(include_breaches("src/weights/index.cpp", "#include <nlohmann/json.hpp>\n"), IsEmpty());
  EXPECT_THAT(include_breaches("src/layers/conv.cpp", "#include <torch/torch.h>\n"), SizeIs(1));
}

TEST(PublicHeaderRuleTest, TakesStdAndTensorOnly) {
  EXPECT_THAT(public_header_breaches("include/orrery/a.h", "#include <vector>\n#include <ATen/core/Tensor.h>\n"), IsEmpty());
  EXPECT_THAT(public_header_breaches("include/orrery/a.h", "#include <ATen/ATen.h>\n"), SizeIs(1));
  EXPECT_THAT(public_header_breaches("include/orrery/a.h", "#include \"layers/conv.h\"\n"), SizeIs(1));
  EXPECT_THAT(public_header_breaches("include/orrery/a.h", "#ifdef ORRERY_CUDA\n#endif\n"), SizeIs(1));
}

TEST(DocRuleTest, FindsEachUndocumentedDeclaration) {
  const auto breaches = doc_comment_breaches("a.h",
                                             "namespace orrery {\n\n"
                                             "/// Said.\nclass ORRERY_API A : public B {\n public:\n"
                                             "  ~A();\n  A(A&&) noexcept;\n\n"
                                             "  /// Said.\n  int one(int x = {}) const { return x; }\n\n"
                                             "  int two() const;\n\n private:\n  int three_;\n};\n\n"
                                             "int four(int a,\n         int b);\n\nstruct Five {\n  int six;  ///< said\n};\n\n"
                                             "/// Said.\nenum class Seven { kEight, kNine };\n\n}  // namespace orrery\n");
  ASSERT_THAT(breaches, SizeIs(3));
  EXPECT_THAT(breaches[0], HasSubstr("a.h:12: has no doc comment: int two() const"));
  EXPECT_THAT(breaches[1], HasSubstr("int four(int a,"));
  EXPECT_THAT(breaches[2], HasSubstr("struct Five"));
}

TEST(LinkRuleTest, FindsPicturesAndPagesThatAreNotThere) {
  const auto exists = [](const std::string& path) { return path == "docs/a.md" || path == "README.md"; };
  EXPECT_THAT(link_breaches("docs/b.md", "[a](a.md#part) [up](../README.md) [far](https://x.org/y) [here](#part)\n", exists), IsEmpty());
  EXPECT_THAT(link_breaches("README.md", "[a](docs/a.md) ![gone](docs/b.gif), [gone](c.md#x)\n", exists), SizeIs(2));
}

TEST(LengthRuleTest, SixHundredLinesAreEnough) {
  EXPECT_THAT(length_breaches("a.cpp", std::string(600, '\n')), IsEmpty());
  EXPECT_THAT(length_breaches("a.cpp", std::string(601, '\n')), SizeIs(1));
}

TEST(TextRuleTest, FindsMachinesRegistriesAndUnfinishedNotes) {
  EXPECT_THAT(text_breaches("a.md", std::string("see /ho") + "me/somebody/x\n"), SizeIs(1));
  EXPECT_THAT(text_breaches("a.md", std::string("see https://py") + "pi.org/simple\n"), SizeIs(1));
  EXPECT_THAT(text_breaches("a.cpp", std::string("// TO") + "DO: later\n"), SizeIs(1));
  EXPECT_THAT(text_breaches("a.md", "build/bin/orrery reconstruct -o out.mp4\n"), IsEmpty());
}

}  // namespace
}  // namespace orrery::testing

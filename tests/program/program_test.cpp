// The command line from outside: names, exit codes, error lines and files, as docs/contract.md fixes them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "orrery/media.h"
#include "orrery/weights.h"
#include "program/run_program.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::Ended;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::run_program;
using ::testing::StartsWith;

std::string golden(const std::string& path) {
  return (testing::golden_folder() / path).string();
}

class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(testing::program_path())) GTEST_SKIP() << "the program is not built";
  }

  std::string at_folder(const std::string& name) const { return (folder_ / name).string(); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& item : fs::directory_iterator(folder_.path())) names.push_back(item.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  Ended eval(const std::string& model, const std::string& call, const std::string& inputs, const std::string& output,
             const std::string& shell = "") const {
    return run_program({"eval", "--model", model, "--call", call, "--inputs", inputs, "--output", output}, shell);
  }
  // A copy of a golden model with one tensor changed.
  template <typename Change>
  std::string changed_model(const Change& change) const {
    TensorMap tensors = load_safetensors(golden("ci8x8_encode/model/model.safetensors"));
    change(tensors);
    fs::create_directories(folder_ / "model");
    save_safetensors(folder_ / "model/model.safetensors", tensors);
    fs::copy_file(golden("ci8x8_encode/model/config.json"), folder_ / "model/config.json");
    return at_folder("model");
  }
  std::string clip(int64_t frames, int64_t height, int64_t width, double fps = 10) const {
    const at::Tensor ramp = at::arange(frames * height * width * 3).remainder(251).to(at::kByte);
    write_video(folder_ / "clip.mkv", {ramp.view({frames, height, width, 3}), fps});
    return at_folder("clip.mkv");
  }

  testing::TemporaryFolder folder_;
};

// One line that names the kind; that is all a script may rely on.
void expect_failure(const Ended& ended, const std::string& kind) {
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_THAT(ended.err, StartsWith("error: " + kind + ": "));
  EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
  EXPECT_THAT(ended.out, IsEmpty());
}

TEST_F(ProgramTest, HelpAndVersionAreNoErrors) {
  const Ended help = run_program({"--help"}), version = run_program({"--version"}),
              of_eval = run_program({"eval", "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, AllOf(HasSubstr("reconstruct"), HasSubstr("inspect"), HasSubstr("bench")));
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, StartsWith("orrery "));
  EXPECT_EQ(of_eval.code, 0);
  EXPECT_THAT(of_eval.out, AllOf(HasSubstr("--streaming"), HasSubstr("--inputs")));
}

TEST_F(ProgramTest, AWrongCommandLineGivesTwoAndTheUsage) {
  const std::vector<std::vector<std::string>> lines = {
      {},
      {"paint"},
      {"inspect"},
      {"inspect", "--colour", "x"},
      {"--log-level", "loud", "inspect", "x"},
      {"eval", "--model", "x", "--call", "encode", "--inputs", "x", "--output", "y"},
      {"eval", "--model", "x", "--call", "vae.encode", "--output", "y"},
      {"eval", "--model", "x", "--call", "vae.encode", "--inputs", "x", "--output", "y", "--dtype", "int8"},
      {"eval", "--model", "x", "--call", "vae.encode", "--inputs", "x", "--output", "y", "--device", "tpu"},
      {"encode", "--model", "x", "-o", "y"}};
  for (const auto& line : lines) {
    const Ended ended = run_program(line);
    EXPECT_EQ(ended.code, 2) << ::testing::PrintToString(line) << ended.err;
    EXPECT_THAT(ended.err, AllOf(StartsWith("error: argument: "), HasSubstr("Usage: orrery")))
        << ::testing::PrintToString(line);
  }
}

TEST_F(ProgramTest, ANumberOutsideItsRangeIsToldInAFewWords) {
  for (const auto& [option, number, told] : {std::tuple{"--num-frames", "0", "expected a number above 0, got 0"},
                                             std::tuple{"--width", "-8", "expected a number above 0, got -8"},
                                             std::tuple{"--fps", "nan", "expected a number above 0, got nan"},
                                             std::tuple{"--start", "-1", "expected 0 or more, got -1"}}) {
    const Ended ended = run_program({"encode", "--model", "x", "--video", "y", "-o", "z", option, number});
    EXPECT_EQ(ended.code, 2);
    EXPECT_THAT(ended.err, StartsWith(std::string("error: argument: ") + option + ": " + told + "\n"));
  }
}

TEST_F(ProgramTest, EvalGivesTheReferencesTensors) {
  for (const char* streaming : {"", "2"}) {
    std::vector<std::string> line = {"eval",
                                     "--model",
                                     golden("cv8x8x8_encode/model"),
                                     "--call",
                                     "vae.encode",
                                     "--inputs",
                                     golden("cv8x8x8_encode/in.safetensors"),
                                     "--output",
                                     at_folder("out.safetensors"),
                                     "--device",
                                     "cpu",
                                     "--dtype",
                                     "float32",
                                     "--threads",
                                     "1"};
    if (*streaming) line.insert(line.end(), {"--streaming", streaming});
    const Ended ended = run_program(line);
    ASSERT_EQ(ended.code, 0) << ended.err;
    EXPECT_TRUE(testing::is_close(load_safetensors(folder_ / "out.safetensors").at("latent"),
                                  load_safetensors(golden("cv8x8x8_encode/expected.safetensors")).at("latent"),
                                  testing::kComponentParity));
    EXPECT_THAT(files(), ElementsAre("out.safetensors"));
  }
}

TEST_F(ProgramTest, AnUnknownLogLevelOfTheEnvironmentIsTold) {
  const Ended ended = run_program({"--version"}, "ORRERY_LOG=loud");
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("ORRERY_LOG is ignored"), HasSubstr("got 'loud'")));
}

TEST_F(ProgramTest, InspectPrintsOneJsonObject) {
  const std::string path = golden("ci8x8_encode/model");
  const Ended ended = run_program({"inspect", path, "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto json = nlohmann::json::parse(ended.out);
  EXPECT_EQ(json.at("path"), path);
  EXPECT_EQ(json.at("kind"), "component");
  const auto& part = json.at("components").at(0);
  EXPECT_EQ(part.at("name"), "vae");
  EXPECT_EQ(part.at("class"), "ContinuousImageTokenizer");
  EXPECT_GT(part.at("parameters"), 100000);
  EXPECT_GT(part.at("bytes"), 100000);
  EXPECT_EQ(part.at("dtype"), "bfloat16");
  for (const char* list : {"missing", "unexpected", "misshapen"}) EXPECT_EQ(part.at(list), nlohmann::json::array()) << list;
  EXPECT_THAT(run_program({"inspect", path}).out, HasSubstr("ContinuousImageTokenizer"));
}

TEST_F(ProgramTest, InspectNamesWhatIsWrongWithACheckpoint) {
  const std::string model = changed_model([](TensorMap& tensors) {
    tensors.erase("quant_conv.weight");
    tensors["decoder.conv_in.bias"] = at::zeros({3});
    tensors["stranger"] = at::zeros({2});
  });
  const auto part = nlohmann::json::parse(run_program({"inspect", model, "--json"}).out).at("components").at(0);
  EXPECT_EQ(part.at("missing"), nlohmann::json({"quant_conv.weight"}));
  EXPECT_EQ(part.at("unexpected"), nlohmann::json({"stranger"}));
  EXPECT_EQ(part.at("misshapen").size(), 1u);
  expect_failure(eval(model, "vae.encode", golden("ci8x8_encode/in.safetensors"), at_folder("out.safetensors")), "weights");
}

TEST_F(ProgramTest, TensorsOfNoModelAreListed) {
  save_safetensors(folder_ / "strange.safetensors", {{"one.weight", at::zeros({2})}, {"two.weight", at::zeros({3})}});
  const Ended listed = run_program({"inspect", at_folder("strange.safetensors"), "--json"});
  EXPECT_EQ(nlohmann::json::parse(listed.out).at("components").at(0).at("unexpected"),
            nlohmann::json({"one.weight", "two.weight"}));
}

TEST_F(ProgramTest, BadInputGivesOneLineAndNoFile) {
  const std::string model = golden("ci8x8_encode/model"), in = golden("ci8x8_encode/in.safetensors"),
                    out = at_folder("out.safetensors");
  expect_failure(eval(at_folder("nowhere"), "vae.encode", in, out), "argument");
  expect_failure(eval(model, "transformer.forward", in, out), "argument");
  expect_failure(eval(model, "vae.paint", in, out), "argument");
  expect_failure(eval(model, "vae.decode", in, out), "argument");  // `sample` is no input of decode
  expect_failure(eval(model, "vae.encode", in, at_folder("no/folder/out.safetensors")), "argument");
  expect_failure(eval(golden("cv8x8x8_encode/model"), "vae.encode", in, out), "argument");  // a picture is no video
  const Ended folder = eval(model, "vae.encode", in, folder_.path().string());
  expect_failure(folder, "argument");
  EXPECT_THAT(folder.err, HasSubstr("is a folder"));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(ProgramTest, WeightsWithNanAreFound) {
  const std::string model = changed_model([](TensorMap& tensors) {
    at::Tensor broken = tensors.at("encoder.conv_in.weight").clone();
    broken.view(-1)[5] = std::numeric_limits<float>::quiet_NaN();
    tensors["encoder.conv_in.weight"] = broken;
  });
  const Ended ended = eval(model, "vae.encode", golden("ci8x8_encode/in.safetensors"), at_folder("out.safetensors"));
  expect_failure(ended, "weights");
  EXPECT_THAT(ended.err, HasSubstr("encoder.conv_in.weight"));
  EXPECT_THAT(ended.err, HasSubstr("NaN"));
  EXPECT_THAT(files(), ElementsAre("model"));
}

TEST_F(ProgramTest, AHalfDownloadedFileIsNamed) {
  const std::string whole = testing::read_file(golden("ci8x8_encode/model/model.safetensors"));
  testing::write_file(folder_ / "half.safetensors", whole.substr(0, whole.size() / 2));
  expect_failure(run_program({"inspect", at_folder("half.safetensors")}), "weights");
}

TEST_F(ProgramTest, AFullDiskLeavesNothingBehind) {
  // A limit on the size of files stands for the full disk: both make the write fail.
  const Ended ended = eval(golden("ci8x8_encode/model"), "vae.decode", golden("ci8x8_decode/in.safetensors"),
                           at_folder("out.safetensors"), "trap '' XFSZ; ulimit -f 1;");
  expect_failure(ended, "device");
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(ProgramTest, OutOfMemoryIsOneLine) {
#ifdef ORRERY_SANITIZED
  GTEST_SKIP() << "AddressSanitizer itself takes more than the limit";
#endif
  const Ended ended = run_program({"encode", "--model", golden("cv8x8x8_encode/model"), "--video", clip(1, 40, 56), "-W",
                                   "65536", "-H", "65536", "-o", at_folder("tokens.safetensors")},
                                  "ulimit -v 3000000;");
  expect_failure(ended, "device");
  EXPECT_THAT(ended.err, HasSubstr("out of memory"));
  EXPECT_THAT(files(), Not(Contains("tokens.safetensors")));
}

TEST_F(ProgramTest, AClipThatDoesNotFitIsPaddedOnlyWhenAsked) {
  const std::string model = golden("cv8x8x8_encode/model"), video = clip(5, 40, 56),
                    tokens = at_folder("tokens.safetensors");
  const std::vector<std::string> line = {"encode", "--model", model, "--video", video, "-o", tokens};
  const Ended refused = run_program(line);
  expect_failure(refused, "argument");
  EXPECT_THAT(refused.err, AllOf(HasSubstr("(1 or 9), got 5"), HasSubstr("--pad")));
  EXPECT_THAT(files(), ElementsAre("clip.mkv"));

  std::vector<std::string> padded = line;
  padded.push_back("--pad");
  const Ended ended = run_program(padded);
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Weights file = Weights::open(tokens);
  EXPECT_EQ(file.shape("latent")->at(2), 2);
  EXPECT_EQ(file.metadata().at("frames"), "5");
  EXPECT_EQ(file.metadata().at("class"), "CausalContinuousVideoTokenizer");

  const Ended decoded = run_program({"decode", "--model", model, "--tokens", tokens, "-o", at_folder("back.mkv")});
  ASSERT_EQ(decoded.code, 0) << decoded.err;
  const Video back = read_video(folder_ / "back.mkv");
  EXPECT_EQ(back.frames.sizes(), (std::vector<int64_t>{5, 40, 56, 3}));  // the padding is taken away again
  EXPECT_EQ(back.fps, 10);
}

TEST_F(ProgramTest, DiscreteTokensAreIndices) {
  const std::string model = golden("di8x8_encode/model"), tokens = at_folder("tokens.safetensors");
  ASSERT_EQ(run_program({"encode", "--model", model, "--video", clip(2, 16, 24), "-o", tokens}).code, 0);
  const TensorMap file = load_safetensors(tokens);
  EXPECT_EQ(file.at("indices").scalar_type(), at::kInt);
  EXPECT_EQ(file.at("indices").sizes(), (std::vector<int64_t>{1, 2, 2, 3}));
  EXPECT_EQ(run_program({"decode", "--model", model, "--tokens", tokens, "-o", at_folder("back")}).code, 0);
  EXPECT_TRUE(fs::is_directory(folder_ / "back"));
}

TEST_F(ProgramTest, ReconstructTellsWhatItCost) {
  const std::vector<std::string> line = {"reconstruct",
                                         "--model",
                                         golden("taew2_1_encode/model/taew2_1.safetensors"),
                                         "--video",
                                         clip(6, 32, 48),
                                         "-o",
                                         at_folder("both.mkv"),
                                         "--side-by-side",
                                         "--json"};
  const Ended ended = run_program(line);
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto json = nlohmann::json::parse(ended.out);
  for (const char* key : {"psnr", "ssim", "compression"}) EXPECT_TRUE(json.at(key).is_number()) << key;
  EXPECT_EQ(read_video(folder_ / "both.mkv").width(), 96);
}

TEST_F(ProgramTest, WhatCannotBeWrittenIsToldBeforeTheWorkAndWithARemedy) {
  const auto told = [&](const std::string& output) {
    // The model is not there: what is told of the output is told before anything is loaded.
    const Ended ended = run_program({"reconstruct", "--model", at_folder("nowhere"), "--video", clip(2, 16, 24, 60), "-o", output});
    expect_failure(ended, "argument");
    return ended.err;
  };
  EXPECT_THAT(told(at_folder("out.xyz")), HasSubstr("this kind of file cannot be written"));
  EXPECT_THAT(told(at_folder("out.gif")), HasSubstr("write .mp4, or read the clip at a lower rate"));
  EXPECT_THAT(told(at_folder("no/out.mp4")), HasSubstr("; make " + at_folder("no") + " first"));
  EXPECT_THAT(files(), ElementsAre("clip.mkv"));
}

TEST_F(ProgramTest, TokensOfAnotherClassAreDecodedAndThatIsTold) {
  const std::string tokens = at_folder("tokens.safetensors"), model = golden("cv8x8x8_encode/model");
  ASSERT_EQ(run_program({"encode", "--model", model, "--video", clip(1, 16, 24), "-o", tokens}).code, 0);
  const auto decode = [&](const std::string& with) {
    return run_program({"decode", "--model", with, "--tokens", tokens, "-o", at_folder("back.mkv")});
  };
  EXPECT_THAT(decode(model).err, IsEmpty());
  const Ended other = decode(golden("ci8x8_encode/model"));
  EXPECT_EQ(other.code, 0);
  EXPECT_THAT(other.err, HasSubstr("holds tokens of CausalContinuousVideoTokenizer: ContinuousImageTokenizer decodes them"));
}

TEST_F(ProgramTest, BenchPrintsItsStages) {
  const Ended ended = run_program({"bench", "--model", golden("ci8x8_encode/model"), "--call", "vae.encode", "--inputs",
                                   golden("ci8x8_encode/in.safetensors"), "--warmup", "0", "--repeat", "2", "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto json = nlohmann::json::parse(ended.out);
  for (const char* stage : {"load", "vae.encode"})
    for (const char* key : {"median_s", "min_s", "max_s"})
      EXPECT_GT(json.at("stages").at(stage).at(key), 0) << stage << " " << key;
  EXPECT_GT(json.at("peak_rss_bytes"), 0);
  EXPECT_GT(json.at("threads"), 0);
}

TEST_F(ProgramTest, BenchTimesAPromptApartFromALook) {
  const Ended ended = run_program({"bench", "--model", golden("original_wan_text2video/model"), "--call", "transformer.forward",
                                   "--inputs", golden("original_wan_text2video/in.safetensors"), "--repeat", "1", "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto stages = nlohmann::json::parse(ended.out).at("stages");
  for (const char* stage : {"transformer.prepare", "transformer.forward"})
    EXPECT_GT(stages.at(stage).at("percent_of_peak"), 0) << stage;
}

TEST_F(ProgramTest, AnInterruptStopsCleanly) {
  // The signal is sent when the program blocks it, which is the first thing it does.
  const std::string when_ready =
      "interrupt() { until grep -q 'SigBlk:.*[2367abef]$' /proc/$1/status 2>/dev/null; do sleep 0.02; done; kill -INT $1; };"
      "run() { \"$@\" & interrupt $!; wait $!; }; run";
  const Ended ended = run_program({"bench", "--model", golden("ci8x8_encode/model"), "--repeat", "1000000"}, when_ready);
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("error: cancelled: "));
}

}  // namespace
}  // namespace orrery

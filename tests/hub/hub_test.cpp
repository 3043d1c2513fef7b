#include "orrery/hub.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <sstream>

#include "hub/http.h"
#include "hub/listing.h"
#include "hub/sha256.h"
#include "orrery/error.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temporary.h"

extern char** environ;

namespace orrery {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::read_file;
using testing::TemporaryFolder;

constexpr char kCommit[] = "0123456789abcdef0123456789abcdef01234567";
constexpr size_t kWeightsBytes = 102400;

/// tests/hub/server.py, as long as this object lives.
class Server {
 public:
  explicit Server(const fs::path& log) {
    int to_child[2], from_child[2];
    if (::pipe2(to_child, O_CLOEXEC) != 0 || ::pipe2(from_child, O_CLOEXEC) != 0) return;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to_child[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from_child[1], 1);
    const std::string script = (testing::source_root() / "tests/hub/server.py").string(), log_path = log.string();
    std::string python = "python3", isolated = "-I";
    char* arguments[] = {python.data(), isolated.data(), const_cast<char*>(script.c_str()),
                         const_cast<char*>(log_path.c_str()), nullptr};
    if (::posix_spawnp(&child_, "python3", &actions, nullptr, arguments, environ) != 0) child_ = 0;
    posix_spawn_file_actions_destroy(&actions);
    ::close(to_child[0]);
    ::close(from_child[1]);
    input_ = to_child[1];
    for (char c; child_ && ::read(from_child[0], &c, 1) == 1 && c != '\n';) port_ += c;
    ::close(from_child[0]);
  }
  ~Server() {
    ::close(input_);
    if (child_) ::waitpid(child_, nullptr, 0);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  bool runs() const { return !port_.empty(); }
  std::string url() const { return "http://127.0.0.1:" + port_; }

 private:
  pid_t child_ = 0;
  int input_ = -1;
  std::string port_;
};

class HubTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_.emplace(folder_ / "log");
    if (!server_->runs()) GTEST_SKIP() << "python3 is not there to play the hub";
    for (const char* name :
         {"HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"})
      set(name, nullptr);
    set("HF_HOME", (folder_ / "home").c_str());
    set("HF_ENDPOINT", server_->url().c_str());
  }
  void TearDown() override {
    for (const auto& [name, value] : before_) value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }

  void set(const char* name, const char* value) {
    const char* old = std::getenv(name);
    before_.emplace(name, old ? std::optional<std::string>(old) : std::nullopt);
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  std::vector<std::string> requests() const {
    std::vector<std::string> lines;
    std::istringstream log(read_file(folder_ / "log"));
    for (std::string line; std::getline(log, line);) lines.push_back(line);
    return lines;
  }
  std::vector<std::string> files_under(const fs::path& root) const {
    std::vector<std::string> names;
    for (const auto& item : fs::recursive_directory_iterator(root))
      if (!item.is_directory()) names.push_back(item.path().lexically_relative(root).string());
    std::sort(names.begin(), names.end());
    return names;
  }
  fs::path repository(const std::string& name) const { return folder_ / "home" / "hub" / ("models--org--" + name); }

  TemporaryFolder folder_;
  std::optional<Server> server_;
  std::map<std::string, std::optional<std::string>> before_;
};

TEST(HubIdTest, PartsAreToldApart) {
  const HubId id = parse_hub_id("nvidia/Cosmos-1.0_x@refs/pr/3:vae/");
  EXPECT_EQ(id.repository, "nvidia/Cosmos-1.0_x");
  EXPECT_EQ(id.revision, "refs/pr/3");
  EXPECT_EQ(id.inside, "vae");
  EXPECT_EQ(parse_hub_id("a/b").revision, "main");
  EXPECT_EQ(parse_hub_id("a/b:c/d.pt").inside, "c/d.pt");
  for (const char* text : {"", "a", "a/", "/b", "a/b/c", "./b", "../b", "a/b@", "a/b:", "a/b@..", "a/b:../c", "a/b:/c",
                           "a b/c", "a/..b", "-a/b"})
    EXPECT_FALSE(is_hub_id(text)) << text;
}

TEST(Sha256Test, KnownDigestsInAnyPieces) {
  using hub_detail::Sha256;
  EXPECT_EQ(Sha256().finish(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string million(1000000, 'a');
  for (const size_t piece : {1000000u, 63u, 64u, 65u, 1u}) {
    Sha256 hash;
    for (size_t i = 0; i < million.size(); i += piece) hash.update(million.data() + i, std::min(piece, million.size() - i));
    EXPECT_EQ(hash.finish(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") << piece;
  }
}

TEST_F(HubTest, APipelineIsFetchedWithoutWhatItDoesNotNeedAndThenFoundInTheCache) {
  std::vector<Progress> reports;
  WorkOptions work;
  work.on_progress = [&](const Progress& progress) { reports.push_back(progress); };
  const fs::path path = resolve("org/pipeline", work);
  EXPECT_EQ(path, repository("pipeline") / "snapshots" / kCommit);
  EXPECT_THAT(files_under(path), ElementsAre("model_index.json", "scheduler/scheduler_config.json", "vae/config.json",
                                             "vae/diffusion_pytorch_model.safetensors"));
  EXPECT_EQ(read_file(path / "vae/diffusion_pytorch_model.safetensors").size(), kWeightsBytes);
  EXPECT_EQ(fs::read_symlink(path / "vae/config.json").string().substr(0, 15), "../../../blobs/");
  EXPECT_EQ(read_file(repository("pipeline") / "refs/main"), kCommit);
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().stage, "download");
  EXPECT_EQ(reports.back().done, reports.back().total);
  EXPECT_GE(reports.back().total, static_cast<int64_t>(kWeightsBytes));

  const size_t before = requests().size();
  EXPECT_EQ(resolve("org/pipeline"), path);
  EXPECT_EQ(resolve("org/pipeline:vae"), path / "vae");
  EXPECT_EQ(requests().size(), before) << "the cache should have answered";
  EXPECT_EQ(pull("org/pipeline"), path);
  EXPECT_EQ(requests().size(), before + 1) << "pull asks what is new, and fetches nothing that is there";
  set("HF_HUB_OFFLINE", "1");
  EXPECT_EQ(resolve("org/pipeline"), path);
}

TEST_F(HubTest, APartAFileAndARevisionCanBeNamed) {
  EXPECT_THAT(files_under(resolve("org/pipeline@v1/a:vae")),
              ElementsAre("config.json", "diffusion_pytorch_model.safetensors"));
  EXPECT_EQ(read_file(repository("pipeline") / "refs/v1/a"), kCommit);
  EXPECT_EQ(read_file(resolve("org/pickles:decoder.jit")), "decoder");
  EXPECT_THAT(files_under(resolve(std::string("org/pickles@") + kCommit)), ElementsAre("decoder.jit"));
  EXPECT_THAT(files_under(pull("org/pickles")), ElementsAre("config.json", "decoder.jit", "encoder.jit"));
  EXPECT_THAT(files_under(resolve("org/lone", {}, [](std::string_view file) { return file == "config.json"; })),
              ElementsAre("config.json"));
}

TEST_F(HubTest, ACutConnectionIsResumedWhereItStopped) {
  const fs::path path = resolve("org/cut");
  EXPECT_EQ(read_file(path / "model.safetensors").size(), kWeightsBytes);
  std::vector<std::string> ranges;
  for (const std::string& line : requests())
    if (line.find("/storage/") != std::string::npos) ranges.push_back(line.substr(line.find("safetensors") + 12));
  EXPECT_THAT(ranges, ElementsAre("- -", "bytes=30000- -", "bytes=60000- -", "bytes=90000- -"));
}

TEST_F(HubTest, AServerThatCannotResumeIsReadFromTheStart) {
  EXPECT_EQ(read_file(resolve("org/norange") / "model.safetensors").size(), kWeightsBytes);
}

TEST_F(HubTest, ADeadServerIsGivenUpAndWhatCameIsKept) {
  EXPECT_THAT(
      error_of([] { resolve("org/dead"); }),
      AllOf(HasSubstr("device: org/dead: model.safetensors: the download stopped"), HasSubstr("what was fetched is kept")));
  bool kept = false;
  for (const std::string& name : files_under(repository("dead") / "blobs"))
    if (name.ends_with(".incomplete")) kept = fs::file_size(repository("dead") / "blobs" / name) == 30000;
  EXPECT_TRUE(kept);
  EXPECT_FALSE(fs::exists(repository("dead") / "refs/main"));
}

TEST_F(HubTest, ABusyServerIsAskedAgain) {
  EXPECT_TRUE(fs::exists(resolve("org/busy") / "config.json"));
}

TEST_F(HubTest, AWrongHashIsNamedAndNothingStays) {
  EXPECT_THAT(
      error_of([] { resolve("org/wrong"); }),
      AllOf(HasSubstr("weights: org/wrong: model.safetensors: came damaged: its sha256 differs"), HasSubstr("try again")));
  for (const std::string& name : files_under(repository("wrong"))) EXPECT_THAT(name, Not(HasSubstr("incomplete")));
  EXPECT_FALSE(fs::exists(repository("wrong") / "snapshots" / kCommit / "model.safetensors"));
}

TEST_F(HubTest, AGatedModelNeedsAToken) {
  EXPECT_THAT(error_of([] { resolve("org/gated"); }),
              AllOf(HasSubstr("argument: "), HasSubstr("(401)"), HasSubstr("HF_TOKEN")));
  set("HF_TOKEN", "secret");
  EXPECT_TRUE(fs::exists(resolve("org/gated") / "model.safetensors"));
  for (const std::string& line : requests()) {
    if (line.find("/storage/") == std::string::npos) continue;
    EXPECT_THAT(line, Not(HasSubstr("secret"))) << "the token left its host";
  }
}

TEST_F(HubTest, WhatDoesNotExistIsNamed) {
  EXPECT_THAT(error_of([] { resolve("org/nothing"); }),
              HasSubstr("argument: org/nothing@main: the hub knows no such model"));
  EXPECT_THAT(error_of([] { resolve("org/lone@v9"); }), HasSubstr("org/lone@v9: the hub knows no such model, revision"));
  EXPECT_THAT(error_of([] { resolve("org/lone:vae"); }), HasSubstr("holds nothing under vae"));
  EXPECT_THAT(error_of([] { resolve("/no/such/place"); }),
              HasSubstr("does not exist; expected a model folder, a checkpoint file, or a hub id"));
  set("HF_HUB_OFFLINE", "true");
  EXPECT_THAT(error_of([] { resolve("org/lone"); }), HasSubstr("is not in the local cache, and HF_HUB_OFFLINE"));
  EXPECT_EQ(resolve(folder_.path().string()), folder_.path());
}

TEST_F(HubTest, AListingMayNotReachOutOfTheCache) {
  EXPECT_THAT(error_of([] { resolve("org/evil"); }), HasSubstr("names a file outside the repository"));
  EXPECT_FALSE(fs::exists(folder_ / "evil.json"));
}

TEST_F(HubTest, ACancelledDownloadStops) {
  WorkOptions work;
  work.on_progress = [&](const Progress&) { work.cancel.cancel(); };
  try {
    resolve("org/lone", work);
    FAIL() << "was not cancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCancelled);
  }
}

TEST_F(HubTest, AFullDiskIsNamed) {
  const fs::path small = folder_ / "small";
  fs::create_directories(small);
  if (::geteuid() != 0 || ::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "no small disk to be had";
  set("HF_HOME", small.c_str());
  // One server says how much will come, and is refused at once; the other does not, and fills the disk.
  const std::string known = error_of([] { resolve("org/lone"); }), unknown = error_of([] { resolve("org/unsized"); });
  ::umount(small.c_str());
  EXPECT_THAT(known, AllOf(HasSubstr("device: "), HasSubstr("too little space"), HasSubstr("HF_HOME")));
  EXPECT_THAT(unknown, AllOf(HasSubstr("No space left on device"), HasSubstr("HF_HOME")));
}

}  // namespace
}  // namespace orrery

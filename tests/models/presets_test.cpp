#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "models/registry.h"
#include "orrery/error.h"
#include "sampling/schedule.h"
#include "support/compare.h"
#include "support/errors.h"

namespace orrery::models {
namespace {

TEST(PresetsTest, EveryRowCanBeRun) {
  std::set<std::string> names;
  for (const Preset& preset : presets()) {
    EXPECT_TRUE(names.insert(preset.name).second) << preset.name << " stands there twice";
    EXPECT_NO_THROW(pipeline_entry_of(std::string(preset.form).substr(0, std::string(preset.form).find('/')), preset.name));
    EXPECT_EQ(preset.numbers.width % 16, 0) << preset.name;
    EXPECT_EQ(preset.numbers.height % 16, 0) << preset.name;
    if (!*preset.scheduler) continue;
    const Config scheduler = Config::parse(preset.scheduler, preset.name);
    EXPECT_GE(sampling::make_schedule(scheduler, {.steps = preset.numbers.steps}).steps(), preset.numbers.steps)
        << preset.name;
  }
}

TEST(PresetsTest, TheFirstOfAFormAndWayIsTheUsual) {
  EXPECT_EQ(preset_of("Cosmos2VideoToWorldPipeline", Compat::kOriginal, "").name,
            std::string("Cosmos-Predict2-Video2World-720p-16fps"));
  EXPECT_EQ(preset_of("Cosmos2VideoToWorldPipeline", Compat::kDiffusers, "").numbers.num_frames, 93);
  EXPECT_EQ(preset_of("Cosmos2VideoToWorldPipeline", Compat::kDiffusers, "Cosmos-Predict2-Video2World-480p-10fps")
                .numbers.num_frames,
            61);
}

TEST(PresetsTest, AnUnknownNameListsWhatThereIs) {
  const std::string message = testing::error_of([] { preset_of("WanPipeline", Compat::kOriginal, "Wan2.1-T2V-2B"); });
  EXPECT_NE(message.find("Wan2.1-T2V-1.3B"), std::string::npos) << message;
  EXPECT_EQ(message.find("I2V"), std::string::npos) << "one of another pipeline";
}

TEST(GuidanceTest, TheTwoFormsAreThoseOfTheirNames) {
  const at::Tensor c = at::full({3}, 2.0), u = at::full({3}, 0.5);
  EXPECT_TRUE(guide(c, u, 3, GuidanceForm::kFromPrompt).equal(at::full({3}, 6.5)));    // c + g (c − u)
  EXPECT_TRUE(guide(c, u, 3, GuidanceForm::kFromNegative).equal(at::full({3}, 5.0)));  // u + g (c − u)
}

}  // namespace
}  // namespace orrery::models

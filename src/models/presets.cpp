// The one table of released models: steps, shift, guidance, resolution, frames and frame rate, and how their own repository
// samples.
#include <string>

#include "models/registry.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr const char* kEdm =
    R"({"_class_name": "EDMEulerScheduler", "sigma_max": 80.0, "sigma_min": 0.0002, "sigma_data": 0.5})";
constexpr const char* kAb2 = R"({"_class_name": "RectifiedFlowAB2Scheduler", "sigma_max": 80.0, "sigma_min": 0.002})";
constexpr const char* kKarrasUniPC = R"({"_class_name": "FlowUniPCMultistepScheduler", "use_kerras_sigma": true})";
constexpr const char* kBaseUniPC = R"({"_class_name": "FlowUniPCMultistepScheduler", "conditional_frame_timestep": -1.0})";
constexpr const char* kUniPC = R"({"_class_name": "FlowUniPCMultistepScheduler"})";
constexpr const char* kTrigFlow = R"({"_class_name": "TrigFlowSampler"})";
constexpr const char* kFourSteps =
    R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "denoising_step_list": [1000, 750, 500, 250]})";

GenerationDefaults numbers(int64_t frames, int64_t width, int64_t height, double fps, int64_t steps, double guidance,
                           double shift = 0, double guidance_2 = 0) {
  return {.num_frames = frames,
          .height = height,
          .width = width,
          .steps = steps,
          .guidance_scale = guidance,
          .fps = fps,
          .guidance_scale_2 = guidance_2,
          .flow_shift = shift};
}

constexpr Compat kD = Compat::kDiffusers, kO = Compat::kOriginal;

}  // namespace

// Sources: the call defaults of diffusers 0.42.1's pipelines; nvidia-cosmos/cosmos-predict1, cosmos-predict2,
// cosmos-transfer2.5; Wan-Video/Wan2.1:generate.py and README, Wan-Video/Wan2.2:wan/configs. A guidance of 0 is none in the
// form c + g (c − u), of 1 in the form u + g (c − u).
const std::vector<Preset>& presets() {
  static const std::vector<Preset> table = {
      // name, form, way                                                                   frames  width height fps steps
      // guidance shift second
      {"CosmosTextToWorldPipeline", "CosmosTextToWorldPipeline", kD, numbers(121, 1280, 704, 30, 36, 7)},
      {"CosmosVideoToWorldPipeline", "CosmosVideoToWorldPipeline", kD, numbers(121, 1280, 704, 30, 36, 7)},
      {"Cosmos2TextToImagePipeline", "Cosmos2TextToImagePipeline", kD, numbers(1, 1360, 768, 16, 35, 7)},
      {"Cosmos2VideoToWorldPipeline", "Cosmos2VideoToWorldPipeline", kD, numbers(93, 1280, 704, 16, 35, 7)},
      {"Cosmos2_5_PredictBasePipeline", "Cosmos2_5_PredictBasePipeline", kD, numbers(93, 1280, 704, 16, 36, 7)},
      {"Cosmos2_5_TransferPipeline", "Cosmos2_5_TransferPipeline", kD, numbers(93, 1280, 704, 16, 36, 3)},
      {"CausalInferencePipeline", "CausalInferencePipeline", kD, numbers(81, 832, 480, 16, 4, 1)},
      {"WanPipeline", "WanPipeline", kD, numbers(81, 832, 480, 16, 50, 5)},
      {"WanPipeline/boundary_ratio", "WanPipeline/boundary_ratio", kD, numbers(81, 832, 480, 16, 50, 5)},
      {"WanPipeline/expand_timesteps", "WanPipeline/expand_timesteps", kD, numbers(81, 832, 480, 24, 50, 5)},
      {"WanImageToVideoPipeline", "WanImageToVideoPipeline", kD, numbers(81, 832, 480, 16, 50, 5)},
      {"WanImageToVideoPipeline/boundary_ratio", "WanImageToVideoPipeline/boundary_ratio", kD,
       numbers(81, 832, 480, 16, 50, 5)},
      {"WanImageToVideoPipeline/expand_timesteps", "WanImageToVideoPipeline/expand_timesteps", kD,
       numbers(81, 832, 480, 24, 50, 5)},

      {"Cosmos-Predict1-Text2World", "CosmosTextToWorldPipeline", kO, numbers(121, 1280, 704, 24, 35, 7), kEdm},
      {"Cosmos-Predict1-Video2World", "CosmosVideoToWorldPipeline", kO, numbers(121, 1280, 704, 24, 35, 7), kEdm},
      {"Cosmos-Predict1-7B-Decoder", "DiffusionDecoderGeneralDIT", kO, numbers(57, 1024, 640, 24, 15, 1.8)},
      {"Cosmos-Predict2-Text2Image", "Cosmos2TextToImagePipeline", kO, numbers(1, 1360, 768, 16, 35, 4), kAb2},
      {"Cosmos-Predict2-Video2World-720p-16fps", "Cosmos2VideoToWorldPipeline", kO, numbers(93, 1280, 704, 16, 35, 7), kAb2},
      {"Cosmos-Predict2-Video2World-720p-10fps", "Cosmos2VideoToWorldPipeline", kO, numbers(61, 1280, 704, 10, 35, 7), kAb2},
      {"Cosmos-Predict2-Video2World-480p-16fps", "Cosmos2VideoToWorldPipeline", kO, numbers(93, 768, 432, 16, 35, 7), kAb2},
      {"Cosmos-Predict2-Video2World-480p-10fps", "Cosmos2VideoToWorldPipeline", kO, numbers(61, 768, 432, 10, 35, 7), kAb2},
      {"Cosmos-Predict2-2B-Sample-Action-Conditioned", "Video2WorldActionConditionedPipeline", kO,
       numbers(13, 640, 480, 4, 35, 0), kAb2},
      {"Cosmos-Predict2.5-2B/robot/action-cond", "ActionVideo2WorldInference", kO, numbers(13, 320, 256, 4, 35, 0, 5),
       kUniPC},
      {"Cosmos-Predict2.5", "Cosmos2_5_PredictBasePipeline", kO, numbers(93, 1280, 704, 16, 35, 7, 5), kKarrasUniPC},
      {"Cosmos-Predict2.5/pre-trained", "Cosmos2_5_PredictBasePipeline", kO, numbers(93, 1280, 704, 16, 35, 7, 5),
       kBaseUniPC},
      {"Cosmos-Predict2.5-2B-Distilled", "Cosmos2_5_PredictBasePipeline", kO, numbers(93, 1280, 704, 16, 4, 0), kTrigFlow},
      {"Cosmos-Transfer2.5-2B", "Cosmos2_5_TransferPipeline", kO, numbers(93, 1280, 704, 16, 35, 3, 5), kKarrasUniPC},
      {"Cosmos-Transfer2.5-2B-Edge-Distilled", "Cosmos2_5_TransferPipeline", kO, numbers(93, 1280, 704, 16, 4, 0),
       kTrigFlow},
      {"Self-Forcing", "CausalInferencePipeline", kO, numbers(81, 832, 480, 16, 4, 1)},
      {"Wan2.1-T2V-14B", "WanPipeline", kO, numbers(81, 1280, 720, 16, 50, 5, 5), kUniPC},
      {"Wan2.1-T2V-1.3B", "WanPipeline", kO, numbers(81, 832, 480, 16, 50, 6, 8), kUniPC},
      {"Wan2.1-T2V-StepDistill", "WanPipeline", kO, numbers(81, 832, 480, 16, 4, 1, 5), kFourSteps},
      {"Wan2.1-I2V-14B-720P", "WanImageToVideoPipeline", kO, numbers(81, 1280, 720, 16, 40, 5, 5), kUniPC},
      {"Wan2.1-I2V-14B-480P", "WanImageToVideoPipeline", kO, numbers(81, 832, 480, 16, 40, 5, 3), kUniPC},
      {"Wan2.1-FLF2V-14B-720P", "WanImageToVideoPipeline", kO, numbers(81, 1280, 720, 16, 50, 5, 16), kUniPC},
      {"Wan2.1-I2V-StepDistill", "WanImageToVideoPipeline", kO, numbers(81, 832, 480, 16, 4, 1, 5), kFourSteps},
      {"Wan2.2-T2V-A14B", "WanPipeline/boundary_ratio", kO, numbers(81, 1280, 720, 16, 40, 4, 12, 3), kUniPC},
      {"Wan2.2-I2V-A14B", "WanImageToVideoPipeline/boundary_ratio", kO, numbers(81, 1280, 720, 16, 40, 3.5, 5, 3.5), kUniPC},
      {"Wan2.2-TI2V-5B", "WanPipeline/expand_timesteps", kO, numbers(121, 1280, 704, 24, 50, 5, 5), kUniPC},
      {"Wan2.2-TI2V-5B (picture)", "WanImageToVideoPipeline/expand_timesteps", kO, numbers(121, 1280, 704, 24, 50, 5, 5),
       kUniPC},
  };
  return table;
}

const Preset& preset_of(const std::string& form, Compat compat, const std::string& name) {
  std::string fitting;
  for (const Preset& preset : presets()) {
    if (form != preset.form) continue;
    if (name.empty() ? preset.compat == compat : name == preset.name) return preset;
    fitting += (fitting.empty() ? "" : ", ") + std::string(preset.name);
  }
  throw Error(ErrorKind::kArgument, {.place = name.empty() ? form : "preset '" + name + "'",
                                     .what = name.empty() ? "has no released numbers" : "is none of this kind of checkpoint",
                                     .expected = fitting.empty() ? "" : "one of " + fitting});
}

}  // namespace orrery::models

#include "support/pipeline_case.h"

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "orrery/config.h"
#include "orrery/media.h"
#include "orrery/weights.h"

namespace orrery::testing {

namespace fs = std::filesystem;

namespace {

// "edge=FILE", or a file alone.
std::pair<std::string, std::string> kind_and_file(const std::string& text) {
  const size_t sign = text.find('=');
  return sign == std::string::npos ? std::pair(std::string(), text) : std::pair(text.substr(0, sign), text.substr(sign + 1));
}

}  // namespace

GenerateOptions options_of(const fs::path& folder) {
  const auto args = Config::load(folder / "case.json").require<std::vector<std::string>>("args");
  GenerateOptions options;
  size_t weights = 0;
  const std::map<std::string, std::function<void(const std::string&)>> readers = {
      {"-W", [&](const std::string& v) { options.width = std::stoll(v); }},
      {"-H", [&](const std::string& v) { options.height = std::stoll(v); }},
      {"--num-frames", [&](const std::string& v) { options.num_frames = std::stoll(v); }},
      {"--steps", [&](const std::string& v) { options.steps = std::stoll(v); }},
      {"--guidance-scale", [&](const std::string& v) { options.guidance_scale = std::stod(v); }},
      {"--step-cache", [&](const std::string& v) { options.step_cache = std::stod(v); }},
      {"--fps", [&](const std::string& v) { options.fps = std::stod(v); }},
      {"--flow-shift", [&](const std::string& v) { options.flow_shift = std::stod(v); }},
      {"--condition-frames", [&](const std::string& v) { options.condition_frames = std::stoll(v); }},
      {"-p", [&](const std::string& v) { options.prompt = v; }},
      {"-n", [&](const std::string& v) { options.negative_prompt = v; }},
      {"--guidance-scale-2", [&](const std::string& v) { options.guidance_scale_2 = std::stod(v); }},
      {"--noise",
       [&](const std::string& v) {
         const TensorMap noise = load_safetensors(folder / v);
         options.noise = noise.at("noise");
         if (noise.contains("condition_noise")) options.condition_noise = noise.at("condition_noise");
       }},
      {"--control",
       [&](const std::string& v) {
         const auto [kind, file] = kind_and_file(v);
         options.controls.push_back({.kind = kind, .video = load_safetensors(folder / file).at("video")});
       }},
      {"--control-mask",
       [&](const std::string& v) {
         const auto [kind, file] = kind_and_file(v);
         for (Control& control : options.controls)
           if (control.kind == kind) control.mask = load_safetensors(folder / file).at("mask");
       }},
      {"--control-weight", [&](const std::string& v) { options.controls.at(weights++).weight = std::stod(v); }},
      {"--compat", [&](const std::string& v) { options.compat = v == "original" ? Compat::kOriginal : Compat::kDiffusers; }},
      {"--preset", [&](const std::string& v) { options.preset = v; }},
      {"--window", [&](const std::string& v) { options.window_frames = std::stoll(v); }},
      {"--video", [&](const std::string& v) { options.seen = load_safetensors(folder / v).at("video"); }},
      {"-i", [&](const std::string& v) { options.seen = to_input(read_image(folder / v)); }},
      {"--last-image", [&](const std::string& v) { options.last_image = to_input(read_image(folder / v)); }},
      {"--prompt-embeds",
       [&](const std::string& v) {
         const TensorMap embeds = load_safetensors(folder / v);
         options.prompt_embeds = embeds.at("prompt_embeds");
         options.negative_prompt_embeds = embeds.at("negative_prompt_embeds");
       }},
      {"--device", [](const std::string&) {}},
      {"--dtype", [](const std::string&) {}},
  };
  for (size_t i = 0; i + 1 < args.size(); i += 2) readers.at(args[i])(args[i + 1]);
  return options;
}

std::string model_of(const fs::path& folder) {
  return (folder / Config::load(folder / "case.json").get<std::string>("model", "model")).lexically_normal().string();
}

}  // namespace orrery::testing

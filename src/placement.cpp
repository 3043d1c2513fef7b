#include "placement.h"

#include <ATen/ATen.h>

#include <vector>

namespace orrery {
namespace {

void move(at::Tensor& tensor, at::Device device) {
  tensor = placed(tensor, device);
}

void move(std::vector<Control>& controls, at::Device device) {
  for (Control& control : controls) {
    move(control.video, device);
    move(control.mask, device);
  }
}

void move(Latents& latents, at::Device device) {
  for (at::Tensor* tensor : {&latents.video, &latents.action, &latents.sound}) move(*tensor, device);
}

}  // namespace

Conditions placed(Conditions conditions, at::Device device) {
  for (at::Tensor* tensor : {&conditions.text, &conditions.text_mask, &conditions.image, &conditions.actions,
                             &conditions.camera, &conditions.known, &conditions.known_mask})
    move(*tensor, device);
  move(conditions.controls, device);
  return conditions;
}

GenerateOptions placed(GenerateOptions options, at::Device device) {
  for (at::Tensor* tensor :
       {&options.prompt_embeds, &options.negative_prompt_embeds, &options.prompt_mask, &options.negative_prompt_mask,
        &options.seen, &options.last_image, &options.noise, &options.condition_noise})
    move(*tensor, device);
  move(options.actions, at::kCPU);
  move(options.controls, device);
  return options;
}

Generated placed(Generated generated, at::Device device) {
  move(generated.latents, device);
  move(generated.video, device);
  move(generated.normalized, device);
  for (Latents& window : generated.windows) move(window, device);
  return generated;
}

}  // namespace orrery

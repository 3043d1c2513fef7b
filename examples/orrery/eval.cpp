// orrery eval: runs one component once, with tensors by name, so that it can be compared with its reference from outside.
#include <memory>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "program.h"

namespace program {
namespace {

struct Options {
  ModelOptions model;
  std::string call;
  std::filesystem::path inputs, output;
  orrery::CallOptions how;
};

void run(const Options& options) {
  const size_t dot = options.call.find('.');
  const std::string component_name = options.call.substr(0, dot), function = options.call.substr(dot + 1);
  require_writable_file(options.output);

  const orrery::LoadOptions load = options.model.load();
  orrery::TensorMap inputs;
  if (!options.inputs.empty()) inputs = orrery::load_safetensors(options.inputs);
  for (auto& [name, tensor] : inputs) tensor = tensor.to(load.device);

  const auto component = orrery::load_component(options.model.path, component_name, load);
  check_interrupt();
  const orrery::TensorMap outputs = component->call(function, inputs, options.how);
  check_interrupt();
  orrery::save_safetensors(options.output, outputs);
}

}  // namespace

void add_eval(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("eval", "Run one component once, with tensors by name");
  options->model.add_to(*command);
  options->model.add_loras_to(*command);
  command->add_option("--call", options->call, "COMPONENT.FUNCTION, e.g. vae.encode, transformer.forward, dynamics.logits")
      ->required()
      ->check([](const std::string& call) {
        const size_t dot = call.find('.');
        const bool good = dot != std::string::npos && dot > 0 && dot + 1 < call.size();
        return good ? std::string() : "'" + call + "' is no call; expected COMPONENT.FUNCTION, e.g. vae.encode";
      });
  CLI::Option* inputs = command->add_option("--inputs", options->inputs, "Safetensors file with the inputs by name");
  command->add_option("-o,--output", options->output, "Safetensors file for the outputs")->required();
  command->add_option("--streaming", options->how.streaming, "Tokenizers: feed so many frames (latents) at a time")
      ->check(above_zero());
  command->add_flag("--all-layers", options->how.all_layers, "Text encoders: also return every layer's hidden states");
  CLI::Option* text = command->add_option("--text", options->how.texts, "Text tokenizers: what to encode (repeatable)")
                          ->expected(1)
                          ->allow_extra_args(false)
                          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--max-length", options->how.max_length, "Text tokenizers: truncate and pad to so many ids")
      ->check(above_zero());
  command->final_callback([=] {
    if (inputs->count() == 0 && text->count() == 0) throw CLI::RequiredError("--inputs (or --text)");
    options->how.texts = text->results();  // as they were given: empty ones too
    run(*options);
  });
}

}  // namespace program

// orrery inspect: what lies at a place, and whether it is whole; reads headers only.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "orrery/action_space.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "orrery/pipeline.h"
#include "program.h"

namespace program {
namespace {

struct Options {
  std::string path, weights = "stored";
  orrery::MemoryQuestion asked;
  bool json = false;
};

nlohmann::ordered_json to_json(const orrery::ComponentReport& report) {
  return {{"name", report.name},       {"class", report.class_name},      {"parameters", report.parameters},
          {"dtype", report.dtype},     {"bytes", report.bytes},           {"run_bytes", report.run_bytes},
          {"missing", report.missing}, {"unexpected", report.unexpected}, {"misshapen", report.misshapen}};
}

// 123456789 → "123,456,789".
std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  for (int at = static_cast<int>(text.size()) - 3; at > 0; at -= 3) text.insert(at, ",");
  return text;
}

void print_problems(const char* kind, const std::vector<std::string>& names) {
  constexpr size_t kShown = 20;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) std::printf("    %s: %s\n", kind, names[i].c_str());
  if (names.size() > kShown) std::printf("    %s: and %zu more\n", kind, names.size() - kShown);
}

void print_table(const orrery::ModelDescription& model, const std::vector<orrery::ComponentReport>& reports) {
  std::printf("%s: %s%s%s\n", model.path.c_str(), model.kind.c_str(), model.class_name.empty() ? "" : " ",
              model.class_name.c_str());
  std::printf("%-16s %-34s %16s %-9s %11s %11s\n", "component", "class", "parameters", "dtype", "stored", "to run");
  for (const orrery::ComponentReport& report : reports) {
    const bool weights = report.bytes > 0;
    std::printf("%-16s %-34s %16s %-9s %11s %11s\n", report.name.empty() ? "?" : report.name.c_str(),
                report.class_name.empty() ? "(not recognised)" : report.class_name.c_str(),
                weights ? grouped(report.parameters).c_str() : "-", report.dtype.c_str(),
                weights ? human_bytes(report.bytes).c_str() : "-", weights ? human_bytes(report.run_bytes).c_str() : "-");
    print_problems("missing", report.missing);
    print_problems("unexpected", report.unexpected);
    print_problems("misshapen", report.misshapen);
  }
}

nlohmann::ordered_json to_json(const orrery::ActionSpace& space) {
  return {{"name", space.name},
          {"type", space.discrete ? "discrete" : "continuous"},
          {"width", space.width},
          {"rows_per_step", space.rows_per_step},
          {"names", space.names},
          {"low", space.low},
          {"high", space.high},
          {"units", space.units},
          {"normalisation", space.normalisation},
          {"rate_hz", space.rate_hz},
          {"named", space.named},
          {"keys", space.keys}};
}

void print_actions(const orrery::ActionSpace& space) {
  std::printf("\nactions: %s, %lld number%s a row, %g steps a second; %s\n", space.discrete ? "discrete" : "continuous",
              static_cast<long long>(space.width), space.width == 1 ? "" : "s", space.rate_hz, space.units.c_str());
  if (!space.normalisation.empty()) std::printf("  normalised by the model: %s\n", space.normalisation.c_str());
  for (size_t i = 0; space.low.empty() && i < space.names.size(); ++i) std::printf("  %s\n", space.names[i].c_str());
  for (size_t i = 0; i < space.low.size(); ++i)
    std::printf("  %-20s %g … %g\n", i < space.names.size() ? space.names[i].c_str() : "", space.low[i], space.high[i]);
  for (const auto& [name, row] : space.named) {
    std::printf("  '%s' is", name.c_str());
    for (const double number : row) std::printf(" %g", number);
    for (const auto& [key, meant] : space.keys)
      if (meant == name) std::printf("  [%s]", key.c_str());
    std::printf("\n");
  }
}

// What a world model needs to imagine a future; nothing for what is none.
std::optional<orrery::MemoryNeed> memory_of(const orrery::ModelDescription& model, const Options& options) {
  const bool tokens = model.components.size() == 1 && model.components[0].name == "dynamics";
  if (model.kind != "pipeline" && !tokens) return std::nullopt;
  orrery::MemoryQuestion asked = options.asked;
  asked.weights = parse_weight_form(options.weights);
  try {
    return orrery::predict_memory(model, asked);
  } catch (const orrery::Error& error) {  // what is wrong with the parts stands in the table
    if (error.kind() == orrery::ErrorKind::kUnsupported && (tokens || orrery::describe_action_space(model)))
      return std::nullopt;
    std::fprintf(stderr, "the memory cannot be predicted: %s\n", error.what());
    return std::nullopt;
  }
}

void run(const Options& options) {
  const orrery::ModelDescription model = orrery::describe_model(options.path, work());
  std::vector<orrery::ComponentReport> reports;
  for (const auto& component : model.components) reports.push_back(orrery::inspect_component(component));
  const auto actions = orrery::describe_action_space(model);
  const auto memory = memory_of(model, options);
  if (!options.json) {
    print_table(model, reports);
    if (actions) print_actions(*actions);
    if (memory)
      std::printf("memory for %lld frames of %lldx%lld: %s (text %s, denoising %s, decoding %s), estimated\n",
                  static_cast<long long>(memory->frames), static_cast<long long>(memory->width),
                  static_cast<long long>(memory->height), human_bytes(memory->peak()).c_str(),
                  human_bytes(memory->text).c_str(), human_bytes(memory->denoise).c_str(),
                  human_bytes(memory->decode).c_str());
    return;
  }
  nlohmann::ordered_json json = {
      {"path", options.path}, {"kind", model.kind}, {"components", nlohmann::ordered_json::array()}};
  for (const auto& report : reports) json["components"].push_back(to_json(report));
  if (actions) json["actions"] = to_json(*actions);
  if (memory)
    json["memory"] = {{"frames", memory->frames},    {"height", memory->height},         {"width", memory->width},
                      {"text_bytes", memory->text},  {"denoise_bytes", memory->denoise}, {"decode_bytes", memory->decode},
                      {"peak_bytes", memory->peak()}};
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

}  // namespace

void add_inspect(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "Tell what a model holds and whether it is whole, from headers only");
  command->add_option("path,--model", options->path, "Pipeline or component folder, checkpoint file, or hub id")->required();
  command->add_option("--num-frames", options->asked.frames, "Predict the memory for so many frames")->check(above_zero());
  command->add_option("-W,--width", options->asked.width, "… of this width")->check(above_zero());
  command->add_option("-H,--height", options->asked.height, "… and height")->check(above_zero());
  add_weight_form_to(*command, options->weights);
  command->add_option("--tokenizer", options->asked.video_tokenizer,
                      "Video tokenizer of a world of tokens, if it lies elsewhere");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->final_callback([=] { run(*options); });
}

}  // namespace program

#include <c10/core/InferenceMode.h>

#include <map>
#include <memory>

#include "guarded.h"
#include "models/registry.h"
#include "orrery/load.h"

namespace orrery {
namespace {

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat: return "float32";
    case at::kDouble: return "float64";
    case at::kHalf: return "float16";
    case at::kBFloat16: return "bfloat16";
    case at::kFloat8_e4m3fn: return "float8_e4m3fn";
    case at::kFloat8_e5m2: return "float8_e5m2";
    case at::kChar: return "int8";
    case at::kByte: return "uint8";
    case at::kInt: return "int32";
    case at::kLong: return "int64";
    default: return at::toString(dtype);
  }
}

int64_t elements(const TensorInfo& info) {
  int64_t count = 1;
  for (const int64_t size : info.shape) count *= size;
  return count;
}

bool is_known(const std::string& class_name) {
  for (const models::Entry& entry : models::entries())
    if (entry.class_name == class_name) return true;
  return false;
}

}  // namespace

ComponentReport inspect_component(const ComponentDescription& description) {
  ComponentReport report{.name = description.name, .class_name = description.class_name};
  if (description.path.empty() || description.name.starts_with("tokenizer")) return report;  // nothing to weigh
  return guarded(description.path.string(), [&] {
    const Weights weights = Weights::open(description.path);
    const bool known = is_known(description.class_name);
    int64_t used_bytes = 0, more_bytes = 0;
    if (known) {
      // The class is built on tensors without data; what it asks for and does not find is noted instead of thrown.
      auto asked = std::make_shared<Weights::Report>();
      models::entry_of(description.class_name, weights.place())
          .build(description.config, weights.to(at::kFloat).collecting(asked));
      more_bytes = asked->more_bytes;
      report.missing = asked->missing;
      report.misshapen = asked->misshapen;
      report.unexpected = weights.unused();
    } else if (description.class_name.empty()) {
      report.unexpected = weights.names();  // of no model that is known
    }

    std::map<at::ScalarType, int64_t> bytes_of;
    for (const std::string& name : weights.names()) {
      const TensorInfo info = *weights.info(name);
      report.bytes += info.bytes;
      bytes_of[info.dtype] += info.bytes;
      // Buffers that the class computes itself, and tensors of something else, are no parameters of it.
      if (known && !weights.used(name)) continue;
      report.parameters += elements(info);
      used_bytes += info.bytes;
    }
    const auto more = [](const auto& a, const auto& b) { return a.second < b.second; };
    if (!bytes_of.empty()) report.dtype = dtype_name(std::max_element(bytes_of.begin(), bytes_of.end(), more)->first);
    // Matrices stay as they are stored; what is read at float32 is held so.
    report.run_bytes = used_bytes + more_bytes;
    return report;
  });
}

}  // namespace orrery

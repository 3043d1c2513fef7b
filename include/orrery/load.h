#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "orrery/component.h"
#include "orrery/config.h"
#include "orrery/export.h"
#include "orrery/tokenizer.h"

namespace orrery {

/// One part of a checkpoint, found but not loaded.
struct ComponentDescription {
  std::string name;            ///< "vae", "transformer", …
  std::string class_name;      ///< the reference's class; empty where nothing recognised it
  Config config;               ///< its hyper-parameters: config.json, or what describe() read off the tensors
  std::filesystem::path path;  ///< folder or file of its weights; empty for a part without weights (a scheduler, say)
  std::string dialect;         ///< "diffusers", or "original" where the names are the original repository's
};

/// What lies at a place. Reads headers only.
struct ModelDescription {
  std::string kind;                              ///< "pipeline", "component" or "file"
  std::string class_name;                        ///< of the pipeline, where model_index.json names one
  std::filesystem::path path;                    ///< the local place (a hub id is fetched first)
  std::vector<ComponentDescription> components;  ///< in the order of model_index.json
  Config index{};                                ///< of a pipeline: model_index.json, or what stands for it in another layout
};

/// Finds out what lies at a folder, a file or a hub id. Throws Error (kArgument, kConfig, kWeights) when it cannot.
ORRERY_API ModelDescription describe_model(const std::string& path, const WorkOptions& work = {});

/// Builds one described component. Throws Error(kUnsupported) for an unknown class (listing the known), Error(kWeights) when a
/// tensor is missing or misshapen.
ORRERY_API std::unique_ptr<Component> load_component(const ComponentDescription& description, const LoadOptions& options = {});

/// describe_model + the component of that name ("vae", "transformer", …; a lone component or file answers to every name it
/// can stand for) + load_component.
ORRERY_API std::unique_ptr<Component> load_component(const std::string& path, const std::string& name,
                                                     const LoadOptions& options = {});

/// What `inspect` tells of one component.
struct ComponentReport {
  std::string name, class_name, dtype;
  int64_t parameters = 0, bytes = 0;
  int64_t run_bytes = 0;  ///< memory it needs when loaded for float32 work on the CPU, without activations
  std::vector<std::string> missing, unexpected, misshapen;
};

/// Checks a described component against what its class asks for, reading headers only.
ORRERY_API ComponentReport inspect_component(const ComponentDescription& description);

}  // namespace orrery

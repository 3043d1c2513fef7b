// What encode, decode and reconstruct share: which frames are read, how they are coded, and the file of tokens between them.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "orrery/tokenizer.h"

namespace program {

/// The frames a subcommand works on.
struct ClipOptions {
  std::filesystem::path video, image;
  int64_t num_frames = 0, width = 0, height = 0;
  double start = 0, fps = 0;

  void add_to(CLI::App& command);
  orrery::Video read() const;
};

/// How a clip goes through a tokenizer.
struct CodingOptions {
  bool pad = false, trim = false;
  int64_t chunk = 0, tile = 0, tile_overlap = 0;

  void add_to(CLI::App& command, bool fit);
  orrery::CodeOptions options() const;
};

/// Raw latents or tokens as `encode` writes them, and what was coded.
struct Tokens {
  orrery::Latents latents;
  std::string class_name;
  int64_t frames = 0, height = 0, width = 0;  ///< of the clip before padding; 0 where the file does not say
  std::vector<at::Tensor> later;              ///< further windows of a long future, each decoded from a fresh start …
  int64_t overlap = 0;                        ///< … whose first frames the window before has already

  void save(const std::filesystem::path& path) const;
  static Tokens load(const std::filesystem::path& path);
};

/// The first `frames` frames, cut to height x width: takes padding away again. 0 keeps what there is.
orrery::Video cropped(const orrery::Video& video, int64_t frames, int64_t height, int64_t width);

}  // namespace program

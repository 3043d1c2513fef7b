// The shortest program: a video to tokens and back. A model is a folder, a checkpoint file, or a hub id.
//   build/bin/quickstart examples/models/taef2 examples/data/cat.mp4 cat_again.mp4
#include <orrery/error.h>
#include <orrery/media.h>
#include <orrery/tokenizer.h>

#include <iostream>

int main(int argc, char** argv) try {
  const std::string model = argc > 1 ? argv[1] : "nvidia/Cosmos-1.0-Tokenizer-CV8x8x8";
  const auto tokenizer = orrery::CosmosTokenizer::from_pretrained(model);
  const auto tokens = tokenizer.encode(orrery::read_video(argc > 2 ? argv[2] : "input.mp4"));
  orrery::write_video(argc > 3 ? argv[3] : "output.mp4", tokenizer.decode(tokens));
} catch (const orrery::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}

// The shortest program: a video to tokens, what happens next, and back to a video. A model is a folder, a checkpoint file,
// or a hub id.
//   build/bin/quickstart examples/worlds/doom seen.mp4 "move forward" future.mp4
#include <orrery/error.h>
#include <orrery/media.h>
#include <orrery/tokenizer.h>
#include <orrery/world_model.h>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 5) {
    std::cerr << "usage: quickstart MODEL VIDEO ACTION OUTPUT\n";
    return 2;
  }
  const auto tokenizer = orrery::CosmosTokenizer::from_pretrained(argv[1]);
  const auto world_model = orrery::CosmosWorldModel::from_pretrained(argv[1]);
  const auto tokens = tokenizer.encode(orrery::read_video(argv[2]), {.fit = orrery::FitMode::kTrim});
  const auto action = world_model.encode_action(argv[3]);
  const auto future = world_model.generate(tokens, {.action = action, .num_frames = 16});
  orrery::write_video(argv[4], tokenizer.decode(future));
} catch (const orrery::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}

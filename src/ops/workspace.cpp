#include "ops/workspace.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "ops/huge_pages.h"

namespace orrery::ops {
namespace {

constexpr size_t kLine = 64, kFewest = size_t{2} << 20;  // bytes

struct Piece {
  explicit Piece(size_t bytes) : size(bytes), pages(std::make_unique<HugePages>(bytes)) {}
  size_t size;
  std::unique_ptr<HugePages> pages;
};
// Pieces never move: a larger need is met by one more.
struct Stack {
  std::vector<Piece> pieces;
  size_t piece = 0, used = 0;
};
thread_local Stack stack;

}  // namespace

Workspace::Workspace() : piece_(stack.piece), used_(stack.used) {}

Workspace::~Workspace() {
  stack.piece = piece_;
  stack.used = used_;
}

float* Workspace::floats(int64_t count) {
  const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + kLine - 1) / kLine * kLine;
  while (stack.piece < stack.pieces.size() && stack.used + bytes > stack.pieces[stack.piece].size) {
    ++stack.piece;
    stack.used = 0;
  }
  if (stack.piece == stack.pieces.size()) stack.pieces.emplace_back(std::max(bytes, kFewest));
  char* const found = stack.pieces[stack.piece].pages->data() + stack.used;
  stack.used += bytes;
  return reinterpret_cast<float*>(found);
}

}  // namespace orrery::ops

#include "support/far_graph.h"

#include <c10/util/Exception.h>

#include <utility>

namespace orrery::testing {
namespace {

thread_local FarGraph* current = nullptr;

}  // namespace

FarGraph* FarGraph::recording() {
  return current;
}

FarGraph::~FarGraph() {
  reset();
}

void FarGraph::capture_begin(at::MempoolId_t, at::GraphCaptureMode) {
  TORCH_CHECK(!current && done_.empty(), "a graph that records already");
  current = this;
}

void FarGraph::capture_end() {
  TORCH_CHECK(current == this, "a graph that does not record");
  current = nullptr;
  for (void* each : taken_) memory_.spoil(each);
}

void FarGraph::replay() {
  TORCH_CHECK(!current, "operation not permitted when stream is capturing");
  for (const auto& again : done_) again();
}

void FarGraph::reset() {
  if (current == this) current = nullptr;
  done_.clear();
  taken_.clear();
  for (void* each : std::exchange(given_back_, {})) memory_.release(each);
}

}  // namespace orrery::testing

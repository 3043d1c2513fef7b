#include "layers/steady_graph.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
// LibTorch's graphs by their general name: the core links nothing of CUDA (src/ops/module/cuda_graph.cpp brings them). Older
// versions have none.
#if __has_include(<ATen/core/GraphImplInterface.h>)
#include <ATen/core/GraphImplInterface.h>
#define ORRERY_HAS_GRAPHS 1
#endif

#include <cstdlib>
#include <exception>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "layers/side_stream.h"
#include "orrery/log.h"
#include "weights/upload.h"

namespace orrery::layers {

using Tensors = SteadyGraph::Tensors;

struct SteadyGraph::Records {
  std::mutex mutex;
  Counts counts;
  bool usable = false;
  Tensors last;  // of the inputs that the work was last called with, shapes and dtypes: they have no memory
#ifdef ORRERY_HAS_GRAPHS
  struct Recorded {
    Recorded(at::Device device, const Tensors& given) : over(device.type()) {
      for (const at::Tensor& each : given) inputs.push_back(at::empty(each.sizes(), each.options().device(device)));
    }
    Tensors inputs, outputs;  // where the graph reads and writes
    std::unique_ptr<at::GraphImplInterface> graph;
    c10::Event over;  // its last use
  };
  std::optional<Recorded> recorded;
#endif
};

namespace {

bool wanted(at::Device device) {
#ifdef ORRERY_HAS_GRAPHS
  const char* told = std::getenv("ORRERY_CUDA_GRAPHS");
  return SideStream::exists_on(device) && at::has_graph_impl(device.type()) && (!told || std::string_view(told) != "off");
#else
  static_cast<void>(device);
  return false;
#endif
}

Tensors placed(const Tensors& inputs, at::Device device) {
  Tensors there;
  for (const at::Tensor& each : inputs)
    there.push_back(weights_detail::pinned_for(each, device).to(device, each.scalar_type(), /*non_blocking=*/true));
  return there;
}

}  // namespace

SteadyGraph::SteadyGraph(std::string name, at::Device device, Work work)
    : name_(std::move(name)), device_(device), work_(std::move(work)), records_(std::make_unique<Records>()) {
  records_->usable = wanted(device);
}

SteadyGraph::~SteadyGraph() = default;

SteadyGraph::Counts SteadyGraph::counts() const {
  const std::lock_guard lock(records_->mutex);
  return records_->counts;
}

#ifdef ORRERY_HAS_GRAPHS
namespace {

bool alike(const Tensors& a, const Tensors& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i)
    same = a[i].sizes() == b[i].sizes() && a[i].scalar_type() == b[i].scalar_type();
  return same;
}

Tensors forms_of(const Tensors& tensors) {
  Tensors forms;
  for (const at::Tensor& each : tensors)
    forms.push_back(at::empty(each.sizes(), at::device(at::kMeta).dtype(each.scalar_type())));
  return forms;
}

// Everything that the work asks of the device goes into the graph instead. A stream that is current anyway cannot be
// recorded: so on another one. Other threads may do meanwhile what they like.
Tensors record(at::GraphImplInterface& graph, at::Device device, const SteadyGraph::Work& work, const Tensors& inputs) {
  Tensors outputs;
  std::exception_ptr wrong;
  const Beside beside(device);
  beside.run([&] {
    graph.capture_begin({0, 0}, at::GraphCaptureMode::ThreadLocal);
    try {
      outputs = work(inputs);
    } catch (...) {
      wrong = std::current_exception();
    }
    try {
      graph.capture_end();
    } catch (...) {  // says once more that a recording failed
      if (!wrong) wrong = std::current_exception();
    }
  });
  beside.join();  // also of one that failed: what it allocated there may be in use
  if (wrong) std::rethrow_exception(wrong);
  return outputs;
}

template <typename Recorded>
Tensors replay(Recorded& recorded, const Tensors& inputs) {
  const at::Device device = recorded.inputs.front().device();
  const c10::DeviceGuard guard(device);
  const c10::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  recorded.over.block(stream);  // whoever used it last may have done so on another stream
  for (size_t i = 0; i < inputs.size(); ++i)
    recorded.inputs[i].copy_(weights_detail::pinned_for(inputs[i], device), /*non_blocking=*/true);
  recorded.graph->replay();
  Tensors outputs;
  for (const at::Tensor& each : recorded.outputs) outputs.push_back(each.clone());
  recorded.over.record(stream);
  return outputs;
}

}  // namespace

Tensors SteadyGraph::operator()(const Tensors& inputs, bool steady) const {
  std::unique_lock lock(records_->mutex);
  Records& records = *records_;
  if (records.usable && steady && !inputs.empty()) {
    if (records.recorded && alike(records.recorded->inputs, inputs)) {
      ++records.counts.replayed;
      return replay(*records.recorded, inputs);
    }
    if (alike(records.last, inputs)) {
      records.recorded.reset();  // its memory first
      try {
        records.recorded.emplace(device_, inputs);
        records.recorded->graph = at::create_graph_impl(device_.type());
        records.recorded->outputs = record(*records.recorded->graph, device_, work_, records.recorded->inputs);
        ++records.counts.recorded;
        return replay(*records.recorded, inputs);
      } catch (const std::exception& error) {
        records.recorded.reset();
        records.usable = false;
        const std::string_view text = error.what();
        log(LogLevel::kWarning,
            name_ + ": its steps cannot be recorded as a graph of the device, and are started kernel by kernel: " +
                std::string(text.substr(0, text.find('\n'))));
      }
    } else {
      records.last = forms_of(inputs);
    }
  }
  ++records.counts.called;
  lock.unlock();
  return work_(placed(inputs, device_));
}
#else
Tensors SteadyGraph::operator()(const Tensors& inputs, bool) const {
  return work_(placed(inputs, device_));
}
#endif

}  // namespace orrery::layers

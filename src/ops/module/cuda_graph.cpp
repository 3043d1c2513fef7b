// LibTorch's CUDA graphs by the general name that its other devices register themselves (at::create_graph_impl). A library
// of its own, liborrery_cuda_graph.so, which links nothing: what it needs of CUDA is LibTorch's, which is loaded before it.
#include <ATen/core/GraphImplInterface.h>
#include <ATen/cuda/CUDAGraph.h>

namespace {

class CudaGraph final : public at::GraphImplInterface {
 public:
  explicit CudaGraph(const at::GraphImplArgs& args) : graph_(args.keep_graph) {}

  void capture_begin(at::MempoolId_t pool, at::GraphCaptureMode mode) override {
    graph_.capture_begin(pool, mode == at::GraphCaptureMode::ThreadLocal ? cudaStreamCaptureModeThreadLocal
                               : mode == at::GraphCaptureMode::Relaxed   ? cudaStreamCaptureModeRelaxed
                                                                         : cudaStreamCaptureModeGlobal);
  }
  void capture_end() override { graph_.capture_end(); }
  void instantiate() override { graph_.instantiate(); }
  void replay() override { graph_.replay(); }
  void reset() override { graph_.reset(); }
  at::MempoolId_t pool() const override { return graph_.pool(); }
  void enable_debug_mode() override { graph_.enable_debug_mode(); }
  void debug_dump(const std::string&) override {}

 private:
  mutable at::cuda::CUDAGraph graph_;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) void orrery_register_cuda_graphs() {
  if (at::has_graph_impl(c10::DeviceType::CUDA)) return;  // a later LibTorch's own
  at::GraphImplRegistry()->Register("CUDA", [](const at::GraphImplArgs& args) -> std::unique_ptr<at::GraphImplInterface> {
    return std::make_unique<CudaGraph>(args);
  });
}

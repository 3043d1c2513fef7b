#!/usr/bin/env bash
# Everything that only a GPU can show, in one command; writes one report for docs/performance.md.
#   tests/gpu/check.sh [REPORT]        (build/gpu_report.md)
# On a machine without an NVIDIA GPU it builds, runs what needs none, and stops before the first CUDA call: exit code 77. Where
# there is no CUDA toolkit either, there is nothing to build, and it says so at once.
# LibTorch must be one with CUDA: ORRERY_LIBTORCH names a torch folder that holds lib/libtorch_cuda.so.
set -euo pipefail
cd "$(dirname "$0")/../.."
report=${1:-build/gpu_report.md}
build=build/cuda
mkdir -p "$(dirname "$report")" build
say() { echo "$*" | tee -a "$report"; }
block() { { echo '```'; cat; echo '```'; } >>"$report"; }
has_gpu() { nvidia-smi >/dev/null 2>&1; }
: >"$report"

say "# GPU report, $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
say "## Build"
command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
if ! command -v nvcc >/dev/null; then
  has_gpu && { say "There is a GPU and no nvcc: the kernels cannot be compiled."; exit 1; }
  say "There is neither an NVIDIA GPU nor a CUDA toolkit on this machine: nothing to check."
  exit 77
fi
nvcc --version | tail -2 | block
cmake --preset cuda -DORRERY_BUILD_BENCHMARKS=OFF >"$build.log" 2>&1 || { tail -20 "$build.log"; say "Configuring failed."; exit 1; }
targets=(orrery_cuda orrery_kernel_tests)
has_gpu && targets+=(orrery_tests)
cmake --build "$build" --target "${targets[@]}" >>"$build.log" 2>&1 || { tail -20 "$build.log"; say "The build failed."; exit 1; }
say "liborrery_cuda.so: $(stat -Lc %s "$build"/lib/liborrery_cuda.so) bytes"
if command -v cuobjdump >/dev/null; then
  stacks=$(cuobjdump --dump-resource-usage "$build"/lib/liborrery_cuda.so 2>/dev/null | grep -c 'REG:' || true)
  local_memory=$(cuobjdump --dump-resource-usage "$build"/lib/liborrery_cuda.so 2>/dev/null | grep 'REG:' | grep -cvE 'STACK:0 .*LOCAL:0' || true)
  say "cuobjdump: $stacks functions, $local_memory with a stack or local memory"
  [ "$local_memory" = 0 ] || exit 1
fi

say "## Without a GPU: emulation and PTX"
for machine in cpu ptx; do
  ORRERY_KERNEL_MACHINES=$machine "$build"/bin/orrery_kernel_tests --gtest_brief=1 2>&1 | tail -3 | block ||
    { say "The kernels fail on the machine '$machine', before any GPU."; exit 1; }
done

say "## The GPU"
if ! has_gpu; then
  say "There is no NVIDIA GPU on this machine; everything up to the first CUDA call was done."
  exit 77
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv | block
torch=$(sed -n 's/^ORRERY_TORCH_CPU:[^=]*=//p' "$build"/CMakeCache.txt | xargs dirname)
export LD_LIBRARY_PATH=$PWD/$build/lib:$torch:${LD_LIBRARY_PATH:-} ORRERY_KERNEL_MACHINES=gpu

say "### Every op, CPU formula against the GPU"
status=0
"$build"/bin/orrery_kernel_tests --gtest_brief=1 2>&1 | tail -40 | tee /dev/stderr | block || status=1

say "### Every component, pipeline and world against its reference, on the GPU"
ORRERY_FAR_DEVICE=cuda "$build"/bin/orrery_tests --gtest_brief=1 --gtest_filter='*EqualsItsReference*OnAnotherDevice*' 2>&1 |
  tail -40 | tee /dev/stderr | block || status=1

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck; do
    say "### compute-sanitizer $tool"
    compute-sanitizer --tool $tool --error-exitcode 1 "$build"/bin/orrery_kernel_tests --gtest_brief=1 2>&1 | tail -5 | block || status=1
  done
fi
say "Finished with status $status."
exit $status

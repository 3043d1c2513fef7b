#!/usr/bin/env bash
# Everything that only a GPU can show, in one command; writes one report for docs/performance.md.
#   tests/gpu/check.sh [REPORT]        (build/gpu_report.md)
# On a machine without an NVIDIA GPU it builds, runs what needs none, and stops before the first CUDA call: exit code 77. Where
# there is no CUDA toolkit either, there is nothing to build, and it says so at once.
# LibTorch must be one with CUDA: ORRERY_LIBTORCH names a torch folder that holds lib/libtorch_cuda.so.
#   ORRERY_BUILD     a build folder to use instead of build/cuda
#   ORRERY_PYTHON    a Python with torch and diffusers that see the GPU (python3); without one, diffusers is not compared with
set -euo pipefail
cd "$(dirname "$0")/../.."
report=$(realpath -m "${1:-build/gpu_report.md}")
build=${ORRERY_BUILD:-build/cuda}
python=${ORRERY_PYTHON:-python3}
mkdir -p "$(dirname "$report")" build
say() { echo "$*" | tee -a "$report"; }
block() { { echo '```'; cat; echo '```'; } >>"$report"; }
has_gpu() { nvidia-smi >/dev/null 2>&1; }
status=0
# failing WHAT LINES CMD…: runs it, keeps its last lines, and notes a failure; a program that found no GPU has failed.
failing() {
  local what=$1 lines=$2 rc=0
  shift 2
  "$@" >"$build.out" 2>&1 || rc=$?
  tail -"$lines" "$build.out" | tee /dev/stderr | block
  if grep -qE "LibTorch has no CUDA here|there is no NVIDIA GPU on this machine" "$build.out"; then rc=1; fi  # all skipped
  [ $rc = 0 ] || { say "$what: FAILED ($rc)"; status=1; }
}
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
cmake --preset cuda -B "$build" -DORRERY_BUILD_BENCHMARKS=OFF >"$build.log" 2>&1 ||
  { tail -20 "$build.log"; say "Configuring failed."; exit 1; }
targets=(orrery_cuda orrery_kernel_tests orrery_kernel_bench)
has_gpu && targets+=(orrery_tests orrery_program)
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
  failing "The kernels on the machine '$machine'" 3 env ORRERY_KERNEL_MACHINES=$machine "$build"/bin/orrery_kernel_tests --gtest_brief=1
done
failing "The bench, at tiny shapes" 20 "$build"/bin/orrery_kernel_bench --device cpu --small
[ $status = 0 ] || { say "Something fails before any GPU."; exit 1; }

say "## The GPU"
if ! has_gpu; then
  say "There is no NVIDIA GPU on this machine; everything up to the first CUDA call was done."
  exit 77
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv | block
torch=$(dirname "$(sed -n 's/^ORRERY_TORCH_CPU:[^=]*=//p' "$build"/CMakeCache.txt)")
[ -e "$torch/libtorch_cuda.so" ] || { say "The LibTorch in $(basename "$(dirname "$torch")") has no libtorch_cuda.so: ORRERY_LIBTORCH must name one that has."; exit 1; }
# The PyPI wheels keep cuDNN, cuBLAS and the rest beside torch.
wheels=$(find "$torch/../../nvidia" -maxdepth 3 -name lib -type d 2>/dev/null | paste -sd: || true)
export LD_LIBRARY_PATH=$PWD/$build/lib:$torch:$wheels:${LD_LIBRARY_PATH:-}

say "### Every op, CPU formula against the GPU"
failing "The ops" 40 env ORRERY_KERNEL_MACHINES=gpu "$build"/bin/orrery_kernel_tests --gtest_brief=1

say "### Every layer, component, pipeline and world against its reference, on the GPU"
failing "The models" 60 env ORRERY_FAR_DEVICE=cuda "$build"/bin/orrery_tests --gtest_brief=1 \
  --gtest_filter='*AnotherDevice*:SteadyGraph*:*DeviceKernels*:DeviceNoise*:DeviceSolver*:DeviceConvolution*'

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck initcheck; do
    say "### compute-sanitizer $tool"
    failing "$tool" 5 env ORRERY_KERNEL_MACHINES=gpu compute-sanitizer --tool $tool --error-exitcode 1 \
      "$build"/bin/orrery_kernel_tests --gtest_brief=1
  done
else
  say "There is no compute-sanitizer here: not run."
fi

say "### Our kernels beside LibTorch's own operators"
failing "The bench" 30 "$build"/bin/orrery_kernel_bench --device cuda

say "### Beside diffusers"
if "$python" -c 'import torch, diffusers, sys; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1; then
  models=$(mktemp -d)
  trap 'rm -rf "$models"' EXIT
  for class in AutoencoderKLWan AutoencoderKLCosmos; do
    failing "$class" 4 "$python" tests/bench/compare_diffusers.py "$models/$class" --random $class --frames 17 --size 480 \
      --device cuda --dtype bfloat16 --program "$build"/bin/orrery
  done
  for form in wan-1.3b predict2-2b; do
    failing "$form" 4 "$python" tests/bench/compare_networks.py "$models/$form" --form $form --device cuda --dtype bfloat16 \
      --program "$build"/bin/orrery
  done
else
  say "$python has no diffusers that sees the GPU: not compared (ORRERY_PYTHON names another one)."
fi
say "Finished with status $status."
exit $status

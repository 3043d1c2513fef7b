#!/usr/bin/env bash
# Everything that only a GPU can show, in one command; writes one report for docs/performance.md.
#   tests/gpu/check.sh [REPORT]        (build/gpu_report.md)
# On a machine without an NVIDIA GPU it builds, runs what needs none, and stops before the first CUDA call: exit code 77. Where
# there is no CUDA toolkit either, there is nothing to build, and it says so at once.
# On a fresh machine: third_party/setup.sh --dev, NVIDIA's CUDA toolkit (13 is tested), and a Python with torch and diffusers
# (a virtual environment: pip install torch diffusers transformers).
#   ORRERY_BUILD     a build folder to use instead of build/cuda
#   ORRERY_PYTHON    a Python with torch and diffusers that see the GPU (python3); without one, diffusers is not compared with
#   ORRERY_LIBTORCH  a torch folder that holds lib/libtorch_cuda.so (that Python's; setup.sh's LibTorch has none)
#   ORRERY_LIMIT     the most seconds that one step may take (3600)
set -euo pipefail
cd "$(dirname "$0")/../.."
report=$(realpath -m "${1:-build/gpu_report.md}")
build=$(realpath -m "${ORRERY_BUILD:-build/cuda}")
python=${ORRERY_PYTHON:-python3}
libraries=${LD_LIBRARY_PATH:-}
mkdir -p "$(dirname "$report")" "$(dirname "$build")"
say() { echo "$*" | tee -a "$report"; }
block() { { echo '```'; cat; echo '```'; } >>"$report"; }
has_gpu() { nvidia-smi >/dev/null 2>&1; }
status=0
# failing WHAT LINES CMD…: runs it, keeps its last lines, and notes a failure; a program that found no GPU has failed.
failing() {
  local what=$1 lines=$2 rc=0
  shift 2
  timeout -k 60 "${ORRERY_LIMIT:-3600}" "$@" >"$build.out" 2>&1 || rc=$?
  tail -"$lines" "$build.out" | block
  tail -"$lines" "$build.out" >&2
  if grep -qE "LibTorch has no CUDA here|there is no NVIDIA GPU on this machine" "$build.out"; then rc=1; fi  # all skipped
  [ $rc = 0 ] || { say "$what: FAILED ($rc)"; status=1; }
}
: >"$report"

say "# GPU report, $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
say "## Build"
for tool in cmake ninja c++; do
  command -v $tool >/dev/null || { say "There is no $tool: third_party/setup.sh --dev installs what a build needs."; exit 1; }
done
command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
if ! command -v nvcc >/dev/null; then
  has_gpu && { say "There is a GPU and no nvcc: install NVIDIA's CUDA toolkit, or put its bin folder on PATH."; exit 1; }
  say "There is neither an NVIDIA GPU nor a CUDA toolkit on this machine: nothing to check."
  exit 77
fi
nvcc --version | tail -2 | block
if [ -z "${ORRERY_LIBTORCH:-}" ]; then
  torch=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null || true)
  if [ -e "$torch/lib/libtorch_cuda.so" ]; then export ORRERY_LIBTORCH=$torch; fi
fi
# Which LibTorch was found the last time must not decide.
cmake --preset cuda -B "$build" -U 'ORRERY_TORCH_*' -DORRERY_BUILD_BENCHMARKS=OFF >"$build.log" 2>&1 ||
  { tail -20 "$build.log"; say "Configuring failed."; exit 1; }
torch=$(dirname "$(sed -n 's/^ORRERY_TORCH_CPU:[^=]*=//p' "$build"/CMakeCache.txt)")
if has_gpu && [ ! -e "$torch/libtorch_cuda.so" ]; then
  say "The LibTorch in $(basename "$(dirname "$torch")") has no libtorch_cuda.so: ORRERY_LIBTORCH, or ORRERY_PYTHON's torch, must be one that has."
  exit 1
fi
targets=(orrery_cuda orrery_kernel_tests orrery_kernel_bench)
has_gpu && targets+=(orrery_tests orrery_program)
cmake --build "$build" --target "${targets[@]}" >>"$build.log" 2>&1 || { tail -20 "$build.log"; say "The build failed."; exit 1; }
say "liborrery_cuda.so: $(stat -Lc %s "$build"/lib/liborrery_cuda.so) bytes"
cuobjdump=${ORRERY_CUOBJDUMP:-$(command -v cuobjdump || true)}
# Triton, which torch brings, has one.
[ -n "$cuobjdump" ] || cuobjdump=$("$python" -c 'import os, triton; print(os.path.dirname(triton.__file__))' 2>/dev/null || true)/backends/nvidia/bin/cuobjdump
if [ -x "$cuobjdump" ]; then
  "$cuobjdump" --dump-resource-usage "$build"/lib/liborrery_cuda.so 2>&1 | grep 'REG:' >"$build.out" || true
  functions=$(grep -c . "$build.out" || true)
  spilling=$(grep -cvE 'STACK:0 .*LOCAL:0' "$build.out" || true)
  say "cuobjdump: $functions functions, $spilling with a stack or local memory"
  [ "$functions" -gt 0 ] && [ "$spilling" = 0 ] || { say "cuobjdump does not find them free of local memory."; exit 1; }
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
{ nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv || nvidia-smi -L; } 2>&1 | block
# The PyPI wheels keep cuDNN, cuBLAS and the rest beside torch.
wheels=$(find "$torch/../../nvidia" -maxdepth 3 -name lib -type d 2>/dev/null | paste -sd: || true)
export LD_LIBRARY_PATH=$build/lib:$torch${wheels:+:$wheels}${libraries:+:$libraries}

say "### Every op, CPU formula against the GPU"
failing "The ops" 40 env ORRERY_KERNEL_MACHINES=gpu "$build"/bin/orrery_kernel_tests --gtest_brief=1

say "### Every layer, component, pipeline and world against its reference, on the GPU"
failing "The models" 60 env ORRERY_FAR_DEVICE=cuda "$build"/bin/orrery_tests --gtest_brief=1 \
  --gtest_filter='*AnotherDevice*:SteadyGraph*:BlockStream*:*DeviceKernels*:Device*'

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck initcheck; do
    say "### compute-sanitizer $tool"
    # Without LibTorch's own pools, in which a neighbour's memory is not out of bounds.
    failing "$tool" 5 env ORRERY_KERNEL_MACHINES=gpu PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $tool \
      --error-exitcode 1 "$build"/bin/orrery_kernel_tests --gtest_brief=1
  done
else
  say "There is no compute-sanitizer here: not run."
fi

say "### Our kernels beside LibTorch's own operators"
failing "The bench" 30 "$build"/bin/orrery_kernel_bench --device cuda

say "### Beside diffusers"
# Python has a LibTorch of its own, and the program finds ours by itself.
export LD_LIBRARY_PATH=$libraries
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

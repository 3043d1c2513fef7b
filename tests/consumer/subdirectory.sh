#!/usr/bin/env bash
# Builds somebody else's program that takes orrery in by FetchContent, unoptimised, and runs it. The build folder is kept, so
# that a second run compiles only what changed.
#   subdirectory.sh BUILD SOURCE CXX LIBTORCH
set -euo pipefail
cmake -G Ninja -S "$2/tests/consumer/subdirectory" -B "$1" -DCMAKE_CXX_COMPILER="$3" -DCMAKE_CXX_FLAGS=-O0 \
  -DORRERY_SOURCE="$2" -DORRERY_LIBTORCH="$4" -DORRERY_CUDA=OFF
cmake --build "$1" --target consumer -j 2
"$1/consumer"

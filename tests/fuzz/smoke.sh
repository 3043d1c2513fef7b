#!/usr/bin/env bash
# Builds the fuzzers and runs each from seeds that are test files. Ends with 1 at the first input that breaks a reader.
#   tests/fuzz/smoke.sh [SECONDS EACH, 60] [FUZZER…]      (all of: safetensors torch json numpy)
# Needs clang. The corpus that grows, and any input that breaks a reader, stay in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- safetensors torch json numpy

cxx=${ORRERY_FUZZ_CXX:-$(command -v clang++ || command -v clang++-14 || true)}
[ -n "$cxx" ] || { echo "fuzz: clang++ is missing; third_party/setup.sh --dev installs it" >&2; exit 1; }
cmake -S tests/fuzz -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=None >build/fuzz.log 2>&1 ||
  { cat build/fuzz.log >&2; exit 1; }
cmake --build build/fuzz

seeds=build/fuzz/seeds
rm -rf "$seeds"
mkdir -p "$seeds"/{safetensors,torch,json,numpy}
files=tests/weights/files
cp "$files"/*.safetensors "$seeds/safetensors"
cp "$files"/*.pt "$files"/*.jit "$seeds/torch"
cp "$files"/array* "$seeds/numpy"
find tests/golden -name config.json -size -8k | sort | sed -n 1,20p | while read -r file; do cp "$file" "$seeds/json/$(echo "$file" | tr / _)"; done
hash=0123456789abcdef0123456789abcdef01234567
printf '{"sha":"%s","siblings":[{"rfilename":"vae/a.safetensors","blobId":"%s","size":3,"lfs":{"sha256":"%s","size":3}}]}' \
  $hash $hash ${hash}${hash:0:24} >"$seeds/json/listing"
printf '{"_class_name":"P","vae":["lib","A"],"none":[null,null]}' >"$seeds/json/model_index"
printf '{"a":[1,2.5,-3e9],"b":{"c":[{"d":true},{"d":"\\u00fc"}]},"e":18446744073709551615}' >"$seeds/json/mixed"

for reader in "$@"; do
  mkdir -p "build/fuzz/corpus/$reader"
  echo "== $reader, $seconds s"
  "build/fuzz/${reader}_fuzzer" -max_total_time="$seconds" -max_len=40000 -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/broken-$reader-" "build/fuzz/corpus/$reader" "$seeds/$reader" >"build/fuzz/$reader.log" 2>&1 ||
    { tail -40 "build/fuzz/$reader.log"; exit 1; }
  grep -E '^Done|number_of_executed_units|peak_rss' "build/fuzz/$reader.log" || true
done

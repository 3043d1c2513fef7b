#!/usr/bin/env bash
# Installs a build into a temporary prefix, moves the prefix, and builds and runs somebody else's program against it, by
# find_package and by pkg-config. Also looks at the library itself: soname and exported symbols.
#   installed.sh BUILD SOURCE CXX
set -euo pipefail
build=$(cd "$1" && pwd) source=$(cd "$2" && pwd) cxx=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

cmake --install "$build" --prefix "$work/first" >"$work/log" || { cat "$work/log"; fail install; }
mv "$work/first" "$work/moved"
if grep -rIl "$work/first\|$source\|$build" "$work/moved" --include='*.cmake' --include='*.pc' --include='*.h'; then
  fail 'these installed files name the tree they were built in'
fi

cmake -G Ninja -S "$source/tests/consumer/installed" -B "$work/build" -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$work/moved"
cmake --build "$work/build"
"$work/build/consumer" || fail 'the program built with find_package'

library=$(find "$work/moved" -name liborrery.so)
export PKG_CONFIG_PATH=$(dirname "$library")/pkgconfig
"$cxx" "$source/tests/consumer/main.cpp" $(pkg-config --cflags --libs orrery) -o "$work/by_pkg_config" \
  -Wl,-rpath,"$(dirname "$library"):$(pkg-config --variable=libtorch_lib orrery)"
"$work/by_pkg_config" || fail 'the program built with pkg-config'

if [ -x "$work/moved/bin/orrery" ]; then
  "$work/moved/bin/orrery" --help >/dev/null || fail 'the installed orrery does not start'
fi
readelf -d "$library" | grep -q 'SONAME.*liborrery\.so\.[0-9]' || fail 'the soname has no version'
foreign=$(nm -DC --defined-only "$library" | cut -d' ' -f3- | grep -v 'orrery::' || true)
[ -z "$foreign" ] || { echo "$foreign" | head; fail 'the library exports symbols that are not its own'; }
echo 'the installed tree serves other programs'

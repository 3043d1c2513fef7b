#!/usr/bin/env bash
# Installs what building orrery needs on Debian 12 or newer and on Ubuntu 24.04 or newer: packages.txt with apt, and LibTorch
# out of its wheel (libtorch.txt, by hash) into the cache folder. Safe to run again: what is there is left alone.
#
#   third_party/setup.sh [--dev]      --dev: also clang, for the fuzzers, the linter and the formatter
#
# A LibTorch of your own is used instead: ORRERY_LIBTORCH=<torch folder>, CMAKE_PREFIX_PATH, or an active Python environment
# that holds torch.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?the variable HOME is not set}/.cache}/orrery
libtorch=$cache/libtorch-2.15.0
groups=build

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'error: setup: %s\n' "$*" >&2; exit 1; }

for argument in "$@"; do
  case $argument in
    --dev) groups='build|dev' ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

log=$(mktemp "${TMPDIR:-/tmp}/orrery-setup.XXXXXX")
trap 'rm -f "$log"' EXIT

# Runs a command quietly. When it fails, the log is kept and its last error line is what the user sees.
quietly() {
  local what=$1; shift
  "$@" >>"$log" 2>&1 </dev/null && return
  trap - EXIT
  fail "$what failed: $(grep -iE '^(E:|ERROR|error|fatal)' "$log" | tail -1 | grep . || tail -1 "$log") (the whole log: $log)"
}

# The packages of the chosen groups that are absent or older than the list says, one a line.
lacking() {
  local name least group have
  while read -r name least group; do
    case $name in ''|'#'*) continue ;; esac
    [[ $group =~ ^($groups)$ ]] || continue
    have=${installed[$name]:-}
    if [ -z "$have" ] || dpkg --compare-versions "$have" lt "$least"; then printf '%s\n' "$name"; fi
  done <"$here/packages.txt"
}

declare -A installed
read_installed() {
  installed=()
  local name version state
  while read -r name version state; do
    if [ "$state" = installed ]; then installed[$name]=$version; fi
  done < <(dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' 2>/dev/null)
}

as_root() {
  if [ "$(id -u)" = 0 ]; then env DEBIAN_FRONTEND=noninteractive "$@"; else sudo env DEBIAN_FRONTEND=noninteractive "$@"; fi
}

install_packages() {  # names
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    fail "packages are missing and there is no sudo; have an administrator run: apt-get install $*"
  fi
  if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    [ -t 0 ] || fail "packages are missing and sudo wants a password; run: sudo apt-get install $*"
    sudo -v || fail "sudo was refused; have an administrator run: apt-get install $*"
  fi
  say "installing $# packages with apt: $*"
  quietly 'apt-get update' as_root apt-get update -qq
  quietly 'apt-get install' as_root apt-get install -y -qq --no-install-recommends "$@"
  read_installed
}

setup_packages() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    fail "this script knows only apt; install by hand what $here/packages.txt lists, then build with CMake"
  read_installed
  local missing still name
  mapfile -t missing < <(lacking)
  if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}"
    mapfile -t still < <(lacking)
    for name in "${still[@]}"; do
      fail "$name ${installed[$name]:-} is older than $(awk -v n="$name" '$1 == n {print $2}' "$here/packages.txt"), and apt" \
        "has no newer one; use Debian 12, Ubuntu 24.04 or later"
    done
  fi
  say "packages: all $(grep -cE " ($groups)\$" "$here/packages.txt") are there"
}

# A torch folder that the user brought, in the order in which CMake looks (cmake/OrreryLibTorch.cmake).
own_libtorch() {
  local place
  for place in "${ORRERY_LIBTORCH:-}" ${CMAKE_PREFIX_PATH:+${CMAKE_PREFIX_PATH//[:;]/ }} \
    ${VIRTUAL_ENV:+"$VIRTUAL_ENV"/lib/python3*/site-packages} ${CONDA_PREFIX:+"$CONDA_PREFIX"/lib/python3*/site-packages}; do
    for place in "$place" "$place/torch"; do
      if [ -e "$place/lib/libtorch_cpu.so" ]; then printf '%s\n' "$place"; return; fi
    done
  done
}

libtorch_complete() {
  [ -e "$libtorch/torch/lib/libtorch_cpu.so" ] && [ -e "$libtorch/torch/lib/libc10.so" ] &&
    [ -e "$libtorch/torch/include/ATen/ATen.h" ] && [ -e "$libtorch/nvidia/cu13/lib/libcudart.so.13" ] &&
    [ -e "$libtorch/nvidia/cu13/lib/libcupti.so.13" ]
}

fetch_libtorch() {
  [ "$(uname -m)" = x86_64 ] ||
    fail "no LibTorch is pinned for $(uname -m); install one and set ORRERY_LIBTORCH to its torch folder"
  mkdir -p "$cache" 2>/dev/null || fail "cannot write to $cache; set XDG_CACHE_HOME to a folder that you own"
  local free_mib
  free_mib=$(df -Pm "$cache" | awk 'NR == 2 {print $4}')
  [ "$free_mib" -ge 1500 ] || fail "$cache has $free_mib MiB free and LibTorch needs 1500; make room or set XDG_CACHE_HOME"
  if ! python3 -m pip --version >/dev/null 2>&1; then install_packages python3-pip; fi

  stage=$(mktemp -d "$cache/.fetch.XXXXXX")
  trap 'rm -rf "$log" "$stage"' EXIT
  say 'fetching LibTorch 2.15.0 (550 MB, once)'
  local bar=off
  [ -t 1 ] && bar=on
  # The wheels are only unpacked, so it does not matter which Python runs here. Temporary files lie beside the goal.
  if ! TMPDIR=$stage python3 -m pip download --quiet --progress-bar $bar --no-cache-dir --no-deps --require-hashes \
    --only-binary=:all: --implementation cp --python-version 3.11 --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$stage" --requirement "$here/libtorch.txt" 2>"$log" </dev/null; then
    fail "pip could not fetch LibTorch: $(grep -i '^error' "$log" | tail -1 | cut -c1-300 | grep . || echo 'see pip download torch')"
  fi
  say "unpacking it to $libtorch"
  mkdir "$stage/out"
  # What libtorch_cpu needs and nothing else: 570 MB instead of 1.3 GB.
  python3 - "$stage" <<'PYTHON' || fail 'the LibTorch wheels could not be unpacked'
import glob, os, re, sys, zipfile
wanted = re.compile(r'torch/include/|torch/lib/lib(c10|torch|torch_cpu|gomp|gfortran)\.so|nvidia/cu13/(include/|lib/lib(cudart|cupti)\.so)'
                    r'|[^/]+\.dist-info/(licenses/|LICENSE|METADATA)')
for wheel in glob.glob(os.path.join(sys.argv[1], '*.whl')):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(os.path.join(sys.argv[1], 'out'), [n for n in archive.namelist() if wanted.match(n)])
PYTHON
  rm -rf "$libtorch"
  mv "$stage/out" "$libtorch"
  libtorch_complete || fail "the LibTorch wheels do not hold what was expected"
}

setup_libtorch() {
  local own
  own=$(own_libtorch)
  if [ -n "$own" ]; then
    say "LibTorch: yours, $own"
  else
    libtorch_complete || fetch_libtorch
    say "LibTorch: $libtorch"
  fi
}

setup_packages
setup_libtorch
say 'all there; next: cmake --workflow --preset demo'

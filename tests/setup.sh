#!/usr/bin/env bash
# Looks for the tools that a build needs, has rustup install what it can, and names each missing one in one line.
# Says nothing when all are there.
#
#   tests/setup.sh NEED...
#
#   rust     the compiler of rust-toolchain.toml, or a newer one; stands before lint and wasm
#   lint     the components of rust-toolchain.toml
#   wasm     the targets of rust-toolchain.toml
#   cc, c++  a C or C++ compiler with its library's headers
#   static   a C library that can be linked statically
#   go       Go, for the tests that compare with Kubernetes' own code
#   cluster  the programs of a control plane, or Go to build them
#   userns   user namespaces, in which the image's program is tried
#   git, openssl
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=
say() { echo "setup: $*" >&2; }
missing() { say "$*" && failed=yes; }
has() { type -P "$1" >/dev/null; }

# The value of a key of rust-toolchain.toml, as words.
toolchain() { sed -n "/^$1 = /{s/^$1 = //; s/#.*//; s/[][\", ][][\", ]*/ /g; s/^ //; s/ \$//; p;}" rust-toolchain.toml; }

# The minor version of a Rust 1.x: 95 of "1.95.0".
minor() { local rest=${1#1.}; echo "${rest%%.*}"; }

rustc_version() { RUSTUP_AUTO_INSTALL=0 rustc --version 2>/dev/null | cut -d ' ' -f 2; }

rust() {
  local channel version extras=()
  channel=$(toolchain channel)
  if ! has rustc || ! has cargo; then
    missing "no Rust: install rustup from https://rustup.rs; if it is installed, put ~/.cargo/bin on the PATH"
    return
  fi
  version=$(rustc_version) || true
  if [ -z "$version" ] && has rustup; then
    for name in $(toolchain components); do extras+=(--component "$name"); done
    for name in $(toolchain targets); do extras+=(--target "$name"); done
    say "rustup installs Rust $channel (about a minute)"
    rustup toolchain install "$channel" --profile minimal --no-self-update "${extras[@]}" >&2 || true
    version=$(rustc_version) || true
  fi
  if [ -z "$version" ]; then
    missing "no Rust $channel: run \`rustup toolchain install $channel\`"
  elif [ "$(minor "$version")" -lt "$(minor "$channel")" ]; then
    missing "Rust $version is too old: install $channel or newer, or rustup from https://rustup.rs, which installs it"
  fi
}

# Has rustup add a component or target to the toolchain in use, if that is one of rustup's.
add() {
  has rustup && [ "$(rustup which rustc 2>/dev/null)" -ef "$sysroot/bin/rustc" ] || return 1
  say "rustup installs the $1 $2"
  rustup "$1" add "$2" >&2
}

lint() {
  local name program
  for name in $(toolchain components); do
    program=$name
    [ "$name" != clippy ] || program=cargo-clippy
    # rustup has a $program on the PATH whether the component is there or not
    if ! [ -x "$sysroot/bin/$program" ] && { has rustup || ! has "$program"; } && ! add component "$name"; then
      missing "no $program: run \`rustup component add $name\`, or install your distribution's package of it"
    fi
  done
}

wasm() {
  local name
  for name in $(toolchain targets); do
    if ! compgen -G "$sysroot/lib/rustlib/$name/lib/libcore-*.rlib" >/dev/null && ! add target "$name"; then
      missing "no Rust target $name: run \`rustup target add $name\`, or install your distribution's package of it (Debian: libstd-rust-dev-wasm32)"
    fi
  done
}

# Compiles and links a program: compiles COMPILER LANGUAGE [FLAG...]
compiles() {
  local compiler=$1 language=$2 scratch status=0
  shift 2
  has "$compiler" || return
  scratch=$(mktemp -d)
  "$compiler" -x "$language" "$@" -o "$scratch/program" - 2>/dev/null \
    <<<$'#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }' || status=1
  rm -rf "$scratch"
  return $status
}

# Go as the module in a folder wants it; an older Go that may fetch a newer one will do.
go_for() { has go && (cd "$1" && GOWORK=off go list -m >/dev/null 2>&1); }

for need in "$@"; do
  case $need in
    rust)
      rust
      [ -z "$failed" ] || exit 1 # the rest would only repeat it
      sysroot=$(rustc --print sysroot)
      ;;
    lint | wasm) $need ;;
    cc) compiles cc c || missing "no C compiler that works (cc): install gcc and libc6-dev (Debian), or Xcode's command line tools" ;;
    c++) compiles c++ c++ || missing "no C++ compiler that works (c++): install g++ (Debian), or Xcode's command line tools" ;;
    static) compiles cc c -static || missing "no C library to link statically: install libc6-dev (Debian) or glibc-static (Fedora); it takes Linux" ;;
    go) go_for tests/oracles/strategic || missing "no Go 1.26 or newer: install it from https://go.dev/dl; the tests compare with Kubernetes' own code" ;;
    cluster) tests/cluster/build.sh --check || failed=yes ;;
    userns) unshare --user --map-root-user true 2>/dev/null || missing "no user namespaces (unshare --user): the image's tests take Linux, util-linux, and the right to make them" ;;
    git | openssl) has "$need" || missing "no $need: install your system's package of it" ;;
    *) missing "$need is no need that this script knows" ;;
  esac
done
[ -z "$failed" ]

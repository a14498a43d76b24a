#!/bin/sh
# Builds the example modules into policies/*.wasm, the same bytes on every machine.
#
#   policies/build.sh           builds, and rewrites SHA256SUMS
#   policies/build.sh --check   tests SDK and modules natively, builds into a scratch folder and compares with SHA256SUMS
#
# "The same bytes" needs: the compiler of rust-toolchain.toml, the versions of Cargo.lock, and no path of this
# machine in the binary (panic texts hold file names).
set -eu
cd "$(dirname "$0")"

case "${1-}" in
    "") out=. ;;
    --check) out=$(mktemp -d); trap 'rm -rf "$out"' EXIT ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
../tests/setup.sh rust lint wasm cc

# a folder of its own: CARGO_TARGET_DIR may be shared with builds of other settings
target=$PWD/target
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
compiler=$(rustc --version)
if [ "$out" != . ] && ! grep -qxF "# built by policies/build.sh with $compiler" SHA256SUMS; then
    echo "policies: $compiler gives other bytes than the compiler that SHA256SUMS names: use the one of rust-toolchain.toml" >&2
    exit 1
fi

flags=
flag() { flags="$flags${flags:+$(printf '\037')}$1"; }

# the last match wins; std's sources get the name that they have without rust-src
flag "--remap-path-prefix=$PWD=/policies"
flag "--remap-path-prefix=$cargo_home=/cargo"
flag "--remap-path-prefix=$sysroot=/sysroot"
flag "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit"
# the name of a registry's folder contains a hash of its address, which differs between mirrors
cargo fetch --locked --quiet
for registry in "$cargo_home"/registry/src/*; do
    flag "--remap-path-prefix=$registry=/crates"
done
# 64 KiB of stack are ten times what the examples use, and 512 KiB of memory hold a 28 KB pod without growing
flag "-Clink-arg=-zstack-size=65536"
flag "-Clink-arg=--initial-memory=524288"

examples=$(cd examples && echo *)

unset RUSTFLAGS
if [ "$out" != . ]; then
    cargo fmt --all --check
    cargo clippy --locked --quiet --workspace --all-targets --target-dir "$target" -- -D warnings
    cargo test --locked --quiet --workspace --target-dir "$target"
    # only `make bench` builds it, which would notice too late that a change of the SDK breaks it
    (cd ../tests/perf/bench/whole-template && cargo clippy --locked --quiet --target-dir "$target" -- -D warnings)
fi
cargo build --locked --quiet --release --target-dir "$target" -p componentize
for example in $examples; do
    CARGO_ENCODED_RUSTFLAGS=$flags cargo build --locked --quiet --release \
        --target wasm32-unknown-unknown --target-dir "$target" -p "$example"
    core=$(echo "$example" | tr - _).wasm
    "$target/release/componentize" "$target/wasm32-unknown-unknown/release/$core" "$out/$example.wasm"
done

sums() {
    echo "# built by policies/build.sh with $compiler"
    (cd "$out" && for example in $examples; do sha256sum "$example.wasm"; done)
}
if [ "$out" = . ]; then
    sums > SHA256SUMS
    cat SHA256SUMS
else
    sums | diff -u SHA256SUMS - || { echo "policies/*.wasm differ from what the sources build" >&2; exit 1; }
    sha256sum --check --quiet SHA256SUMS
    echo "policies/*.wasm match the sources"
fi

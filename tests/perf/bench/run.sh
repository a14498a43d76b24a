#!/bin/sh
# Measures what a request costs and writes target/bench/results.md and .json: five minutes on two quiet cores.
#
#   tests/perf/bench/run.sh           everything
#   ROUNDS=1 SPAN=1 tests/perf/bench/run.sh    a quick look
#
# It needs wrk (the Debian package `wrk`) and taskset (util-linux); core 0 serves, core 1 asks.
set -eu
cd "$(dirname "$0")/../../.."

target=${CARGO_TARGET_DIR:-$PWD/target}
export PODGRAFT_BENCH_OUT="$target/bench"
export CRITERION_HOME="$PODGRAFT_BENCH_OUT/criterion"
mkdir -p "$PODGRAFT_BENCH_OUT"

if ! command -v wrk > /dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get install -y wrk > /dev/null
    else
        echo "wrk is missing: it is the package wrk of Debian and Ubuntu, or \`brew install wrk\`." >&2
        exit 2
    fi
fi

# the module that returns the whole template; flags as in policies/build.sh
guests=$PODGRAFT_BENCH_OUT/guests
RUSTFLAGS="-Clink-arg=-zstack-size=65536 -Clink-arg=--initial-memory=524288" cargo build --locked --quiet --release \
    --target wasm32-unknown-unknown --target-dir "$guests" --manifest-path tests/perf/bench/whole-template/Cargo.toml
cargo run --locked --quiet --release --target-dir "$guests" --manifest-path policies/Cargo.toml -p componentize -- \
    "$guests/wasm32-unknown-unknown/release/whole_template.wasm" "$PODGRAFT_BENCH_OUT/whole-template.wasm"

cargo bench --locked --bench core --bench server --no-run
cargo bench --locked --quiet --bench core
cargo bench --locked --quiet --bench server

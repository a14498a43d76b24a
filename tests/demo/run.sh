#!/usr/bin/env bash
# `make run`: compiles podgraft, shows what it makes of a pod without a cluster, and then tells the story of
# tests/demo.rs on a real API server. The programs of the control plane are built beside the compiler, if they have to be.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tests/setup.sh rust cc cluster

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
[ -x "$target/debug/podgraft" ] ||
  echo "make run: the first time takes eight to fifteen minutes on two cores, nearly all of it compiling; later half a minute" >&2

# In a process group of its own, so that all of it ends with this script; the compiler goes first.
set -m
nice -n 10 tests/cluster/build.sh >"$target/cluster.bin" &
cluster=$!
set +m
trap 'kill -- "-$cluster" 2>/dev/null || true' EXIT

tests/progress.sh "podgraft" "of about 350 crates" "${CARGO:-cargo}" test --locked --no-run --test demo

render=(render -f tests/fixtures/clearml/pod-small.yaml --config tests/demo/podgraft.yaml --policies policies -o diff)
echo
echo "== what podgraft does to a task pod, without a cluster"
echo "   \$ podgraft ${render[*]}"
"$target/debug/podgraft" "${render[@]}"

wait "$cluster"
trap - EXIT
PODGRAFT_CLUSTER_BIN=$(cat "$target/cluster.bin") "${CARGO:-cargo}" test --locked --quiet --test demo

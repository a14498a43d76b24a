#!/usr/bin/env bash
# RUSTC_WORKSPACE_WRAPPER of a fuzz build: instruments podgraft and the targets, and nothing that they depend on, so that
# the dependencies are those that `cargo test` has built. The flags are cargo-fuzz's without a sanitizer (podgraft has
# no `unsafe` for one to watch); they are stable.
set -euo pipefail
rustc=$1
shift
exec "$rustc" "$@" --cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions -Coverflow-checks \
  -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares \
  -Cllvm-args=-simplifycfg-branch-fold-threshold=0

#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (600): tests/fuzz/run.sh [TARGET...]
#
# Builds with the pinned stable compiler (rustc.sh), seeds each corpus from the cases, fixtures and misbehaving modules of
# this repository, and keeps what libFuzzer finds under target/fuzz: corpus/TARGET grows from run to run, artifacts/ has
# the inputs that failed. To see one again: target/fuzz/bin/TARGET FILE
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/setup.sh rust cc c++

seconds=${FUZZ_SECONDS:-600}
out=target/fuzz
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(review config guest)

# The same profile for everything that is built already; podgraft itself is worth the optimiser here.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
RUSTC_WORKSPACE_WRAPPER="$PWD/tests/fuzz/rustc.sh" tests/progress.sh fuzz "of about 310 crates" \
  "${CARGO:-cargo}" build --locked --package podgraft-fuzz --bins
mkdir -p "$out/bin" "$out/artifacts"
for target in "${targets[@]}"; do
  cp "target/debug/$target" "$out/bin/" # where no other build replaces them
done

seed() { # TARGET NAME: a seed from standard input
  mkdir -p "$out/seeds/$1"
  cat >"$out/seeds/$1/$2"
}
rm -rf "$out/seeds"
for file in tests/fixtures/reviews/*.json tests/cases/*/review.json; do
  [ ! -e "$file" ] || seed review "$(tr / - <<<"$file")" <"$file"
done
for file in tests/cases/*/config.yaml tests/fuzz/rich.yaml src/config/tests/sample.yaml deploy/kustomize/base/configmap.yaml; do
  seed config "$(tr / - <<<"$file")" <"$file"
done
number=0
for text in '{}' '{"spec":{"nodeSelector":{"a":"b"}}}' '{"metadata":{"labels":{"a":null}}}' \
  '{"spec":{"containers":[{"name":"primary","env":[{"name":"A","value":"guest"}],"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","emptyDir":{}}]}}' \
  '{"spec":{"volumes":[{"$patch":"delete","name":"v"}],"tolerations":[{"operator":"Exists"}]}}'; do
  for kind in '\000' '\003' '\010' '\013'; do
    printf "$kind%s" "$text" | seed guest "fragment-$((number += 1))"
  done
done
for file in tests/fixtures/reviews/*-clearml.json; do
  for kind in '\004' '\007' '\014' '\017'; do
    { printf "$kind" && sed 's/.*"object"://' "$file"; } | seed guest "template-$((number += 1))"
  done
done

for target in "${targets[@]}"; do
  mkdir -p "$out/corpus/$target"
  echo "fuzz $target: $seconds s"
  # -len_control=0: long inputs at once, as a review is never short. A second is a hang for what takes 100 us.
  "$out/bin/$target" -max_total_time="$seconds" -max_len=65536 -len_control=0 -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$out/artifacts/$target-" \
    "$out/corpus/$target" "$out/seeds/$target" 2>"$out/$target.log" || {
    tail -n 60 "$out/$target.log" >&2
    echo "fuzz $target: failed; the input is in $out/artifacts" >&2
    exit 1
  }
  awk -v target="$target" '/stat::number_of_executed_units/ {runs = $2} /stat::average_exec_per_sec/ {rate = $2}
    END {print "fuzz " target ": " runs " runs, " rate " a second, nothing found"}' "$out/$target.log"
done

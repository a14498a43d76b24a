#!/usr/bin/env bash
# Prints the path of an oracle, Kubernetes' own code as a program: tests/oracles/build.sh NAME builds the folder NAME
# beside this file once (half a minute) and keeps it under target/NAME by the digest of its sources. Progress goes to
# stderr.
set -euo pipefail

name=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/$name" && pwd)
progress=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/../progress.sh
target=${CARGO_TARGET_DIR:-$here/../../../target}
mkdir -p "$target/$name"
cache=$(cd "$target/$name" && pwd)

digest() { { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16; }

bin=$cache/$(cat "$here/go.mod" "$here/go.sum" "$here/main.go" | digest)
if [ ! -x "$bin" ]; then
  if ! (cd "$here" && GOWORK=off go list -m) >/dev/null 2>&1; then
    echo "$name: this test compares with Kubernetes' own code: install Go 1.26 or newer (https://go.dev/dl) to have it built" >&2
    exit 1
  fi
  echo "$name: building Kubernetes' own code for the comparison, once (about half a minute on two cores)" >&2
  # Under a name of its own first: an interrupted build leaves nothing that looks finished.
  trap 'rm -f "$bin.$$"' EXIT
  (cd "$here" && GOWORK=off CGO_ENABLED=0 "$progress" "$name" packages \
    go build -v -mod=readonly -trimpath -ldflags "-s -w" -o "$bin.$$" .) >&2
  mv "$bin.$$" "$bin"
fi
echo "$bin"

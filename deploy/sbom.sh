#!/usr/bin/env bash
# Writes target/sbom/podgraft.cdx.json: every crate in the image's program, with version, license and checksum.
set -euo pipefail
cd "$(dirname "$0")/.."

target/tools/bin/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --describe binaries \
  --target "$(rustc -vV | sed -n 's/^host: //p')" --quiet
mkdir -p target/sbom
mv -f podgraft_bin.cdx.json target/sbom/podgraft.cdx.json
rm -f tests/fuzz/*_bin.cdx.json # it writes one next to each manifest of the workspace
grep -q '"pkg:cargo/wasmtime@' target/sbom/podgraft.cdx.json # fails if it is empty
echo "target/sbom/podgraft.cdx.json: $(grep -c '"purl": "pkg:cargo/' target/sbom/podgraft.cdx.json) crates"

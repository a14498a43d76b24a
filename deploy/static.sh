#!/usr/bin/env bash
# Builds podgraft as one static file: deploy/static.sh [PROFILE]; prints the path. PROFILE is `release` unless given.
#
# glibc, linked in: nothing beside the C compiler that the build needs anyway, the same memcpy and the same dependencies
# as every other build, so that only the last link is done again. (musl would want a C compiler of its own.) What a
# static glibc cannot do alone is look names up by plugins (NSS): the two that a container has, /etc/hosts and DNS, are
# built in since 2.34.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-release}
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
${CARGO:-cargo} rustc --locked --profile "$profile" --bin podgraft -- -C target-feature=+crt-static 1>&2
mkdir -p "target/static/$profile"
# away from where the next build puts its own, which is not static
cp -f "target/$folder/podgraft" "target/static/$profile/.podgraft"
mv -f "target/static/$profile/.podgraft" "target/static/$profile/podgraft"
echo "$PWD/target/static/$profile/podgraft"

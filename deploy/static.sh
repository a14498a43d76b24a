#!/usr/bin/env bash
# Builds podgraft as one static file: deploy/static.sh [PROFILE]; prints the path. PROFILE is `release` unless given.
#
# glibc, linked in: nothing beside the C compiler that the build needs anyway, the same memcpy and the same dependencies
# as every other build, so that only the last link is done again. (musl would want a C compiler of its own.) What a
# static glibc cannot do alone is look names up by plugins (NSS): the two that a container has, /etc/hosts and DNS, are
# built in since 2.34.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh rust cc static

profile=${1:-release}
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
built=target/$folder/podgraft out=target/static/$profile
mkdir -p "$out"
# what other tests run lies where this build puts its own: it is put back
rm -f "$out/.other"
[ ! -e "$built" ] || ln "$built" "$out/.other"
tests/progress.sh image "of about 300 crates" \
  "${CARGO:-cargo}" rustc --locked --profile "$profile" --bin podgraft -- -C target-feature=+crt-static 1>&2
cp -f "$built" "$out/.podgraft"
mv -f "$out/.podgraft" "$out/podgraft"
[ ! -e "$out/.other" ] || mv -f "$out/.other" "$built"
echo "$PWD/$out/podgraft"

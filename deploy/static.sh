#!/usr/bin/env bash
# Builds podgraft as one static file and prints its path: deploy/static.sh [PROFILE], default `release`.
#
# It links glibc statically: that needs only the C compiler of every other build, and the memcpy and dependencies of the
# other builds, so that only the last link is done again. (musl needs a C compiler of its own.) A static glibc cannot
# load plugins for name lookups (NSS); the two that a container has, /etc/hosts and DNS, are built in since 2.34.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh rust cc static

profile=${1:-release}
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
built=target/$folder/podgraft out=target/static/$profile
mkdir -p "$out"
# other tests run the program at the path that this build overwrites: it is put back
rm -f "$out/.other"
[ ! -e "$built" ] || ln "$built" "$out/.other"
tests/progress.sh image "of about 300 crates" \
  "${CARGO:-cargo}" rustc --locked --profile "$profile" --bin podgraft -- -C target-feature=+crt-static 1>&2
cp -f "$built" "$out/.podgraft"
mv -f "$out/.podgraft" "$out/podgraft"
[ ! -e "$out/.other" ] || mv -f "$out/.other" "$built"
echo "$PWD/$out/podgraft"

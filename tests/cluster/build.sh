#!/usr/bin/env bash
# Prints the directory that holds etcd, kube-apiserver, kube-controller-manager and kubectl. With --check it builds
# nothing and only says which of them can be neither found nor built.
#
# Each program comes from the first of: the folder KUBEBUILDER_ASSETS (envtest's convention), the
# PATH, the Go modules of go.mod beside this file (built once, about four minutes on two cores, and
# kept under target/cluster by the digest of go.mod and go.sum). Progress goes to stderr.
set -euo pipefail

only_check=
[ "${1-}" != --check ] || only_check=yes

OLDEST_MINOR=30 # podgraft needs matchConditions, native sidecars and scheduling gates

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
mkdir -p "$target/cluster"
cache=$(cd "$target/cluster" && pwd)

own_version=$(sed -nE 's|^.*k8s\.io/kubernetes (v1\.[0-9.]+).*|\1|p' "$here/go.mod")

say() { echo "cluster: $*" >&2; }

digest() { { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16; }

# Kubernetes' minor version of a program, or nothing: a program that cannot say it is not used, nor
# is one that only dispatches to others (the Google Cloud SDK's kubectl, "v1.32.4-dispatcher").
minor() {
  local flag=--version
  [ "${1##*/}" != kubectl ] || flag="version --client"
  # shellcheck disable=SC2086 # the flag of kubectl is two words
  { "$1" $flag 2>/dev/null || true; } |
    sed -nE '/-dispatcher/d; s/^(Client Version:|Kubernetes) v1\.([0-9]+)\..*/\2/p'
}

# Whether a program of the PATH may run beside the API server of minor version $api: the supported
# skew is one either way for kubectl, and the same or one older for the controller manager.
fits() {
  local name=${1##*/} found
  if [ "$name" = etcd ]; then
    "$1" --version 2>/dev/null | grep -E '^etcd Version: 3\.([5-9]|[1-9][0-9])\.' >/dev/null
    return
  fi
  found=$(minor "$1")
  case $name:$found in
    *:) return 1 ;;
    kube-apiserver:*) [ "$found" -ge "$OLDEST_MINOR" ] ;;
    kubectl:*) [ "$found" -ge $((api - 1)) ] && [ "$found" -le $((api + 1)) ] ;;
    *) [ "$found" -ge $((api - 1)) ] && [ "$found" -le "$api" ] ;;
  esac
}

# Prints the path of a program built from its module. It is built under a name of its own first, so
# that an interrupted build leaves nothing that looks finished.
build() {
  local name=$1 bin component=k8s.io/component-base/version
  local package=k8s.io/kubernetes/cmd/$name
  [ "$name" != etcd ] || package=go.etcd.io/etcd/server/v3
  bin=$cache/$(cat "$here/go.mod" "$here/go.sum" | digest)/bin
  if [ ! -x "$bin/$name" ]; then
    if ! (cd "$here" && GOWORK=off go list -m) >/dev/null 2>&1; then
      say "no $name: set KUBEBUILDER_ASSETS to a folder that holds it, or put it (Kubernetes 1.$OLDEST_MINOR or newer) on the PATH, or install Go 1.26 or newer (https://go.dev/dl) to have it built"
      return 1
    fi
    [ -z "$only_check" ] || return 0
    say "building $name, once (all four programs: about four minutes on two cores; none with KUBEBUILDER_ASSETS set to a folder that holds them)"
    mkdir -p "$bin"
    unfinished=$bin/.$name.$$
    trap 'rm -f "$unfinished"' EXIT
    # Without the version flags every version check sees v0.0.0.
    (cd "$here" && GOWORK=off CGO_ENABLED=0 ../progress.sh "cluster: $name" packages \
      go build -v -mod=readonly -trimpath -ldflags "-s -w
        -X $component.gitVersion=$own_version
        -X $component.gitMajor=1 -X $component.gitMinor=$(cut -d. -f2 <<<"$own_version")" \
      -o "$unfinished" "$package") >&2 || return
    mv "$unfinished" "$bin/$name" || return
  fi
  echo "$bin/$name"
}

# Prints the path of a program, from the first source that has it.
find_program() {
  local name=$1 path
  if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$name" ]; then
    echo "$(cd "$KUBEBUILDER_ASSETS" && pwd)/$name"
  elif path=$(type -P "$name") && fits "$path"; then
    echo "$path"
  else
    build "$name"
  fi
}

apiserver=$(find_program kube-apiserver)
api=$(minor "${apiserver:-/nowhere}")
[ -n "$apiserver" ] || api=$(cut -d. -f2 <<<"$own_version") # it would be built
if [ "${api:-0}" -lt "$OLDEST_MINOR" ]; then
  say "$apiserver is Kubernetes 1.${api:-?}; the oldest that podgraft supports is 1.$OLDEST_MINOR"
  exit 1
fi
programs=$apiserver
for name in etcd kube-controller-manager kubectl; do
  programs+=$'\n'$(find_program "$name")
done

[ -z "$only_check" ] || exit 0

# The folder that holds all four, or else one of links, named by what it links to.
bin=$(dirname "$apiserver")
while read -r path; do
  [ "$(dirname "$path")" = "$bin" ] || bin=
done <<<"$programs"
if [ -z "$bin" ]; then
  bin=$cache/$(digest <<<"$programs")/bin
  mkdir -p "$bin"
  while read -r path; do
    ln -sf "$path" "$bin/"
  done <<<"$programs"
fi
echo "$bin"

#!/usr/bin/env bash
# Makes podgraft's certificates: certs/make.sh DIR
#
# Writes to DIR: ca.crt and ca.key (ten years), tls.crt and tls.key (one year) for the Service
# podgraft in the namespace podgraft, and webhook-ca.yaml, a patch with the caBundle. A CA that is
# already in DIR is kept, so that to run this again renews the certificate without touching the
# caBundle. README.md says what to do with the files.
set -euo pipefail
umask 077

CA_DAYS=3650
TLS_DAYS=365

die() {
  echo "make.sh: $*" >&2
  exit 1
}

[ $# -eq 1 ] && [ -n "$1" ] || die "usage: certs/make.sh DIR"
command -v openssl >/dev/null || die "needs openssl"

# DIR as an absolute path without symbolic links; neither it nor what it lies in need exist
if [ -d "$1" ]; then
  dir=$(cd -- "$1" && pwd -P)
  near=$dir
else
  above=$1
  rest=
  while [ ! -d "$above" ]; do
    rest=/$(basename -- "$above")$rest
    above=$(dirname -- "$above")
  done
  near=$(cd -- "$above" && pwd -P) || die "no folder to make '$1' in"
  dir=${near%/}$rest
fi

# Keys never get into a repository: neither this one nor any other working tree.
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
tree=$(git -C "$near" rev-parse --show-toplevel 2>/dev/null) || tree=
if [ -z "$tree" ] && [[ $dir/ == "$root"/* ]]; then
  tree=$root # no git, or a copy without its history
fi
if [ -n "$tree" ]; then
  for file in ca.crt ca.key tls.crt tls.key webhook-ca.yaml; do
    git -C "$tree" check-ignore -q -- "$dir/$file" 2>/dev/null ||
      die "'$dir' is inside the repository '$tree', which does not ignore $file there: choose another folder"
  done
fi

mkdir -p -- "$dir"
new=$(mktemp -d "$dir/.new.XXXXXX") # in DIR, so that no key ever lies elsewhere
trap 'rm -rf -- "$new"' EXIT

cat >"$new/config" <<'END'
[req]
distinguished_name = name
prompt = no
[name]
CN = podgraft CA
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[tls]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:podgraft.podgraft.svc, DNS:podgraft.podgraft.svc.cluster.local
END

key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve -out "$1"
}

if [ -e "$dir/ca.key" ] && [ -e "$dir/ca.crt" ]; then
  openssl x509 -in "$dir/ca.crt" -noout -checkend $((TLS_DAYS * 86400)) >/dev/null ||
    die "the CA in '$dir' ends within $TLS_DAYS days: make a new one in another folder"
  cp -- "$dir/ca.key" "$dir/ca.crt" "$new"
elif [ -e "$dir/ca.key" ] || [ -e "$dir/ca.crt" ]; then
  die "'$dir' holds one of ca.key and ca.crt without the other"
else
  key "$new/ca.key"
  openssl req -x509 -new -sha256 -config "$new/config" -extensions ca -key "$new/ca.key" \
    -days "$CA_DAYS" -out "$new/ca.crt"
fi

key "$new/tls.key"
openssl req -new -sha256 -config "$new/config" -subj /CN=podgraft.podgraft.svc -key "$new/tls.key" \
  -out "$new/tls.csr"
openssl x509 -req -sha256 -in "$new/tls.csr" -CA "$new/ca.crt" -CAkey "$new/ca.key" \
  -set_serial "0x$(openssl rand -hex 16)" -extfile "$new/config" -extensions tls \
  -days "$TLS_DAYS" -out "$new/tls.crt" 2>/dev/null
openssl verify -CAfile "$new/ca.crt" -purpose sslserver -verify_hostname podgraft.podgraft.svc \
  "$new/tls.crt" >/dev/null

bundle=$(openssl base64 -A -in "$new/ca.crt")
cat >"$new/webhook-ca.yaml" <<END
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: podgraft
webhooks:
  - name: optional.podgraft.io
    clientConfig: {caBundle: $bundle}
  - name: required.podgraft.io
    clientConfig: {caBundle: $bundle}
END

for file in ca.key ca.crt tls.key tls.crt webhook-ca.yaml; do
  mv -f -- "$new/$file" "$dir/$file"
done
echo "made ca.crt, ca.key, tls.crt, tls.key and webhook-ca.yaml in $dir"

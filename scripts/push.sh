#!/bin/bash
# Pushes the image that `make image` made to a registry, for all its processors. Usage: scripts/push.sh HOST/NAME:TAG
# INSECURE=yes also takes a registry without TLS, or with a certificate that nobody knows. `skopeo login HOST` says who you are.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "push: $*" >&2
  exit 1
}

to=${1:-}
[ -n "$to" ] || fail "TO is missing: make push TO=registry.example.com/tandem:0.1.0"
[[ $to =~ ^[^/]*[.:][^/]*/.+:[^/:]+$ || $to =~ ^localhost/.+:[^/:]+$ ]] ||
  fail "TO is $to: it needs a host and a tag, as in registry.example.com/tandem:0.1.0"
layout=target/image/oci
[ -f $layout/index.json ] || fail "there is no image yet: make image"
digest=$(grep -o '"digest":"[^"]*"' $layout/index.json | head -n 1 | cut -d '"' -f 4)

options=()
check=()
if [ "${INSECURE:-}" = yes ]; then
  options+=(--dest-tls-verify=false)
  check+=(--tls-verify=false)
fi
# The policy is about signatures of what comes from registries. This comes from a folder.
if ! said=$(skopeo --insecure-policy copy --quiet --all --preserve-digests "${options[@]}" "oci:$layout" "docker://$to" 2>&1); then
  fail "$to was not written: $(tail -n 1 <<<"$said" | sed -E 's/^time=.* msg="(.*)"$/\1/; s/\\"/"/g')"
fi
# Asked back, because this digest is what manifests refer to.
there=sha256:$(skopeo inspect --raw "${check[@]}" "docker://$to" | sha256sum | cut -d ' ' -f 1)
[ "$there" = "$digest" ] || fail "$to has the digest $there, and the image has $digest"
grep -q -e '-dirty"' -r $layout/blobs && echo "push: note: the image was built from a tree with changes" >&2
echo "pushed: ${to%:*}@$digest"

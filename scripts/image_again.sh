#!/bin/bash
# Builds the image a second time, from a copy of the source in another folder, and compares the digests. `make image-again` calls it.
# Ends with `image_same_digest: yes`, or with what differs.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "image-again: $*" >&2
  exit 1
}

digest() {
  sed -n 's/^image_digest: //p' "$1"
}

mkdir -p target/image-again
copy=$(mktemp -d "${TMPDIR:-/tmp}/tandem-image-again-XXXXXX")
trap 'rm -rf "$copy"' EXIT

scripts/image.sh | tee target/image-again/first.log
# A clone, because the time and the commit are git's. Then what was changed since the commit, so that both are of the same files.
git clone --quiet --shared . "$copy/tree" || fail "git could not copy the source"
git -C "$copy/tree" checkout --quiet --detach "$(git rev-parse HEAD)"
git ls-files -z --deleted | (cd "$copy/tree" && xargs -0 --no-run-if-empty rm -f)
git ls-files -z --modified --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -c 2>/dev/null | tar -x -C "$copy/tree"
mkdir "$copy/tree/target"
ln -s "$PWD/target/tools" "$copy/tree/target/tools"
echo "image-again: building once more in $copy/tree"
(unset CARGO_TARGET_DIR && cd "$copy/tree" && scripts/image.sh) | tee target/image-again/second.log

first=$(digest target/image-again/first.log)
second=$(digest target/image-again/second.log)
[ -n "$first" ] && [ -n "$second" ] || fail "a build printed no digest"
if [ "$first" = "$second" ]; then
  echo "image_same_digest: yes"
  exit 0
fi
echo "image_same_digest: no"
for arch in ${ARCHS:-amd64 arm64}; do
  for file in tandem licences.txt sbom.cdx.json; do
    cmp --silent "target/image/parts/$arch/$file" "$copy/tree/target/image/parts/$arch/$file" && continue
    cp "$copy/tree/target/image/parts/$arch/$file" "target/image-again/$file"
    fail "$file for $arch differs first: see target/image/parts/$arch/$file and target/image-again/$file"
  done
done
fail "all files are the same, so the configuration differs: see target/image/oci and the labels in it"

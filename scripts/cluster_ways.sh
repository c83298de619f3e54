#!/bin/bash
# Runs the tests of the cluster in every way in which Tandem can read from the API server: how lists are asked for, in which encoding,
# over which HTTP. CLUSTER_WAYS="cache,json,http1 pages,json,http2" runs only these. Ends with the number of ways, and of those that
# failed. Fails if one failed. A way also fails if the logs do not say that Tandem read in this way (tests/src/way.rs).
#
# Not run: cluster_ways, which sets ways of its own; and, over HTTP/1.1, the test of dropped packets, because only HTTP/2 has the pings by
# which they are noticed within 40 s.
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
SUITES="cluster_connection cluster_endpoints cluster_events cluster_families cluster_outages cluster_rights cluster_services"
HTTP2_ONLY=an_api_server_whose_packets_are_dropped_is_noticed_within_40_s_and_followed_again
ALL=$(for lists in stream cache pages; do
  for encoding in protobuf json; do
    for http in http2 http1; do echo "$lists,$encoding,$http"; done
  done
done)
WAYS=${CLUSTER_WAYS:-$ALL}
folder=$PWD/target/cluster_ways
mkdir -p "$folder"

tests=()
for suite in $SUITES; do tests+=(--test "$suite"); done
echo "building the tests (some minutes the first time)"
cargo build --quiet --workspace --bins && cargo test --quiet --workspace "${tests[@]}" --no-run || exit 1

# holds WAY REPORT: whether each suite has read lists in this way, and nothing was read in another one.
holds() {
  awk -v way="$1" -v suites="$SUITES" '
    $1 != way { print "read in the way " $1; wrong = 1 }
    { lists[$2] += $3 }
    END {
      count = split(suites, names, " ")
      for (i = 1; i <= count; i++) if (!lists[names[i]]) { print names[i] " read no list in this way"; wrong = 1 }
      exit wrong
    }' "$2"
}

count=0 failed=0
for way in $WAYS; do
  count=$((count + 1)) began=$SECONDS
  log=$folder/$way.log report=$folder/$way.report
  : > "$report"
  skip=()
  case $way in *,http1) skip=(--skip "$HTTP2_ONLY") ;; esac
  TANDEM_TEST_WAY=$way TANDEM_TEST_WAY_REPORT=$report \
    cargo test --workspace --no-fail-fast "${tests[@]}" -- --test-threads=1 "${skip[@]}" > "$log" 2>&1
  status=$?
  wrong=$(holds "$way" "$report") || status=1
  passed=$(awk '/^test result: / { passed += $4 } END { print passed + 0 }' "$log")
  if [ "$status" = 0 ]; then
    echo "$way: $passed tests passed in $((SECONDS - began)) s"
  else
    failed=$((failed + 1))
    echo "$way: failed after $((SECONDS - began)) s, $passed tests passed; see $log"
    { grep '^test .* FAILED$' "$log"; echo "$wrong"; } | sed '/^$/d; s/^/  /'
  fi
done
echo "cluster_ways: $count"
echo "cluster_ways_failed: $failed"
[ "$failed" = 0 ]

#!/bin/bash
# Runs every test and ends with the line `N passed, N failed`. Fails if a test failed or a suite did not run.
# Runs one test at a time, because tests measure how soon an answer comes, and a control plane uses both cores of a small machine.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p target
export CARGO_TERM_COLOR=never
log=target/test.log

cargo test --workspace --no-fail-fast -- --test-threads=1 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# Prints the suites that took a tenth of a minute or more, the longest first, and then the others in one line.
awk '
  /^ +(Running|Doc-tests) / { suite = $1 == "Doc-tests" ? "doc tests of " $2 : $2 == "unittests" ? $3 " of " $4 : $2 }
  /^test result: / {
    seconds = $0; sub(/.*finished in /, "", seconds); sub(/s$/, "", seconds)
    if (seconds + 0 >= 6) printf "%6.1f min  %s\n", seconds / 60, suite | "sort -rn"
    else { rest += seconds; short++ }
  }
  END {
    close("sort -rn")
    if (short) printf "%6.1f min  %d suites of less than 0.1 minutes each\n", rest / 60, short
  }' "$log"

# If a suite crashed, it has no result line and counts as one failure.
awk -v status="$status" '
  /^ +(Running|Doc-tests) / { suites++ }
  /^test result: / { results++; passed += $4; failed += $6 }
  END {
    failed += suites - results
    if (status != 0 && failed == 0) failed = 1
    printf "%d passed, %d failed\n", passed, failed
    exit failed != 0
  }' "$log"

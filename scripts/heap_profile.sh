#!/bin/bash
# Prints where the heap of the agent is at its peak, at 10,000 Services x 10 endpoints in both families: figures in MB, from a profile by
# heaptrack. Each allocation counts for the first line below whose pattern is in its stack. SHAPE=50k_x3 profiles another size of
# bench-memory. The profile stays in target/heap_profile, for heaptrack_print.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
command -v heaptrack_print >/dev/null || apt-get install -y -qq heaptrack >/dev/null
preload=$(find /usr/lib -name libheaptrack_preload.so -print -quit)
interpret=$(find /usr/lib -name heaptrack_interpret -print -quit)
folder=$PWD/target/heap_profile release=$(realpath "$RELEASE")
rm -rf "$folder" && mkdir -p "$folder"

# Stands in for tandem. Only the agent itself is profiled, not the commands that ask for its status.
cat > "$folder/tandem" <<EOF
#!/bin/bash
if [ "\$1" = run ]; then
  export LD_PRELOAD=$preload DUMP_HEAPTRACK_OUTPUT=$folder/raw
fi
exec -a tandem $release/tandem "\$@"
EOF
chmod +x "$folder/tandem"
SHAPE=${SHAPE:-10k_x10} CHANGES=${CHANGES:-200} TANDEM_BIN=$folder/tandem "$release/bench-memory" > /dev/null
"$interpret" < "$folder/raw" 2>/dev/null | gzip > "$folder/profile.gz"
heaptrack_print -f "$folder/profile.gz" -F "$folder/stacks" --flamegraph-cost-type peak > /dev/null 2>&1

awk '
  BEGIN {
    # what the stack contains, then the part
    rule("\\((journal|element|batch|change|arrivals).rs\\)", "load_only")
    rule(" apply \\(mod.rs\\)|;apply \\(mod.rs\\)", "index")
    rule("\\(intern.rs\\)|decode_json.*[ ;]key \\(mod.rs\\)|[ ;]key \\(mod.rs\\).*decode_json", "names")
    rule("\\(endpoints.rs\\)", "slices_endpoints")
    rule("decode_json", "services_lists")
    rule("\\(slots.rs\\)", "tables_endpoints")
    rule("\\((programmed|names).rs\\)|label \\(plan.rs\\)", "tables_names")
    rule("claim<|\\((claims|counted).rs\\)", "tables_claims")
    rule("\\(plan.rs\\)", "tables_frontends")
    rule("\\(asked.rs\\)", "tables_ports")
    rule(".", "other")
  }
  function rule(pattern, part) { patterns[++count] = pattern; parts[count] = part }
  {
    bytes = $NF
    total += bytes
    for (i = 1; i <= count; i++) if ($0 ~ patterns[i]) { part = parts[i]; break }
    if (part == "index") part = /\(arc.rs\)|sparse_array/ ? "map_of_services" : /insert_slice/ ? "slices" : "services"
    sum[part] += bytes
  }
  END {
    for (part in sum) printf "heap_%s_mb: %.1f\n", part, sum[part] / 1048576 | "sort"
    close("sort")
    printf "heap_mb: %.1f\n", total / 1048576
  }' "$folder/stacks"

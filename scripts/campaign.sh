#!/bin/sh
# The long counts: the thread sanitizer, 300 kills, 10,000 simulated disks, 100,000 operations of a namespace, 5 minutes of each fuzz target. Hours on two cores.
set -eu
cd "$(dirname "$0")/.."
scripts/tsan.sh
targets=$(find tests/fuzz -name '*_fuzz.c' | wc -l)
CAL_KILLS=${CAL_KILLS:-300} CAL_KILL_SECONDS=${CAL_KILL_SECONDS:-300} CAL_SIM_SEEDS=${CAL_SIM_SEEDS:-10000} CAL_GRAPH_OPS=${CAL_GRAPH_OPS:-100000} \
    CAL_FUZZ_SECONDS=${CAL_FUZZ_SECONDS:-$((targets * 300 / $(nproc)))} CAL_CAMPAIGN=1 scripts/test.sh

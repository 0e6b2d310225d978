#!/bin/sh
# Simulations of the release build, any number of seeds of each: sim.sh [COUNT [FIRST [NAME]]]. NAME picks those that have it in
# their name (share_chaos, node, store_crash). Nothing limits their time; a failing one prints its seed and how to repeat it.
set -eu
cd "$(dirname "$0")/.."
build=$(realpath "${BUILD:-build}/release") jobs=${JOBS:-$(nproc)}
export CAL_SIM_SEEDS="${1:-1000}" CAL_SIM_SEED="${2:-1}"
tests=""
for source in $(grep -l 'sim_seeds_from(' tests/sim/*.c); do
    name=$(basename "$source" _test.c)
    case $name in *"${3:-}"*) tests="$tests sim_${name%_sim}_test" ;; esac
done
[ "$tests" ] || { echo "sim: no simulation has '$3' in its name" >&2; exit 2; }
mkdir -p "$build/sim"
export build
# shellcheck disable=SC2016 # the inner shell's
printf '%s\n' $tests | xargs -P "$jobs" -I NAME sh -c '
    if "$build/tests/sim/NAME" "$build/apps/kv-store.wasm" >"$build/sim/NAME.log" 2>&1; then
        echo "sim: NAME passed, seeds $CAL_SIM_SEED to $((CAL_SIM_SEED + CAL_SIM_SEEDS - 1))"
    else
        echo "sim: NAME FAILED, see $build/sim/NAME.log:"
        grep -E "repeat with|was running|ERROR|error:" "$build/sim/NAME.log" || tail -n 5 "$build/sim/NAME.log"
        exit 1
    fi'

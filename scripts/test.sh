#!/bin/sh
# Every test: layering, the release build's tests, the same under address and undefined-behaviour sanitizers, two minutes of fuzzing.
# Counts can be raised (scripts/campaign.sh does): CAL_SIM_SEEDS, CAL_KILLS, CAL_FUZZ_SECONDS.
set -eu
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}
scripts/layers.sh
scripts/attacks.sh
for preset in release asan; do
    cmake --preset "$preset" >/dev/null
    cmake --build --preset "$preset" -j "$jobs"
done
status=0
for preset in release asan; do
    ctest --test-dir "build/$preset" --output-on-failure -j "$jobs" 2>&1 | tee "build/$preset/ctest.log"
    grep -q '^100% tests passed' "build/$preset/ctest.log" || status=1
done
scripts/fuzz.sh "${CAL_FUZZ_SECONDS:-120}" 2>&1 | tee build/fuzz.log
tail -n 1 build/fuzz.log | grep -q ' 0 failed$' || status=1
# One line of counts for both builds and the fuzz targets.
passed=$(cat build/release/ctest.log build/asan/ctest.log build/fuzz.log | sed -n \
    -e 's/^.*% tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' \
    -e 's/^fuzz: \([0-9]*\) targets, [0-9]* s each, \([0-9]*\) failed$/\2 \1/p' |
    awk '{f+=$1; t+=$2} END {print t-f " passed, " f " failed"}')
echo "$passed"
exit $status

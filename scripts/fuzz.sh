#!/bin/sh
# Fuzzing: fuzz.sh SECONDS [TARGET]. The seconds are shared by all targets; 0 runs one target (or all in turn, a minute each) without end.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
only=${2:-}
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "${JOBS:-$(nproc)}" --target fuzzers
run() { # TARGET SECONDS
    mkdir -p "build/fuzz/corpus/$1"
    seeds="tests/fuzz/corpus/$1"
    [ -d "$seeds" ] || seeds=""
    # shellcheck disable=SC2086
    "build/fuzz/fuzz/$1" -max_total_time="$2" -timeout=10 -rss_limit_mb=1024 -print_final_stats=0 -verbosity=0 \
        -artifact_prefix="build/fuzz/$1-" "build/fuzz/corpus/$1" $seeds >"build/fuzz/$1.log" 2>&1 || {
        tail -n 40 "build/fuzz/$1.log"
        echo "fuzz: $1 failed; the input is in build/fuzz/$1-*; again: build/fuzz/fuzz/$1 FILE" >&2
        return 1
    }
}
targets=$(cd tests/fuzz && ls ./*_fuzz.c | sed 's|^\./||; s|_fuzz\.c$||')
[ -z "$only" ] || targets=$only
count=$(echo "$targets" | wc -w)
if [ "$seconds" -eq 0 ]; then
    while :; do for target in $targets; do run "$target" $((count == 1 ? 3600 : 60)); done; done
fi
each=$((seconds * $(nproc) / count))
[ "$each" -ge 1 ] || each=1
failed=0
# As many at once as there are processors.
running=0
pids=""
for target in $targets; do
    run "$target" "$each" &
    pids="$pids $!"
    running=$((running + 1))
    if [ "$running" -ge "$(nproc)" ]; then
        for pid in $pids; do wait "$pid" || failed=$((failed + 1)); done
        pids="" running=0
    fi
done
for pid in $pids; do wait "$pid" || failed=$((failed + 1)); done
echo "fuzz: $count targets, $each s each, $failed failed"
[ "$failed" -eq 0 ]

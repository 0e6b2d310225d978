#!/bin/sh
# The integration tests, the store's and the blobs', kills of nodes that share a context, and simulations of sharing, under the
# thread sanitizer. tests/tsan.supp has the engine's exceptions. CAL_TSAN_SEEDS: of each simulation that has seeds.
set -eu
cd "$(dirname "$0")/.."
cmake --preset tsan >/dev/null
cmake --build --preset tsan -j "${JOBS:-$(nproc)}"
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp history_size=7 exitcode=66 ${TSAN_OPTIONS:-}"
CAL_SIM_SEEDS=${CAL_TSAN_SEEDS:-10} \
    ctest --test-dir build/tsan --output-on-failure --timeout 1800 \
    -R '^(context_test|node_test|guest_test|network_test|loop_test|cli_test|api_test|share_api_test|share_test|kill_test|share_kills_|hosts_test|chat_test|store_|blob_|sim_share_|sim_foreign_)'

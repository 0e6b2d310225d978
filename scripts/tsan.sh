#!/bin/sh
# The integration tests, and the store's and the blobs', under the thread sanitizer. tests/tsan.supp has the engine's exceptions.
set -eu
cd "$(dirname "$0")/.."
cmake --preset tsan >/dev/null
cmake --build --preset tsan -j "${JOBS:-$(nproc)}"
TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp history_size=7 exitcode=66 ${TSAN_OPTIONS:-}" \
    ctest --test-dir build/tsan --output-on-failure --timeout 1800 \
    -R '^(context_test|node_test|guest_test|network_test|loop_test|cli_test|api_test|share_api_test|share_test|kill_test|hosts_test|chat_test|store_|blob_)'

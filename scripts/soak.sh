#!/bin/sh
# A mesh of ours with js-libp2p and go-libp2p for a long time (tests/interop/soak.py): soak.sh [SECONDS], an hour by default.
# What cannot be had of the two is left out, and said.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-3600}
build=build/release
cmake --preset release >/dev/null
cmake --build --preset release -j "${JOBS:-$(nproc)}" --target interop_peer
set --
if tests/interop/get_js.sh "$build/interop-js"; then set -- "$@" js "$build/interop-js/node_modules/.bin/node" "$build/interop-js/js_peer.mjs"; fi
if tests/interop/get_go.sh "$build/interop-go"; then set -- "$@" go "$build/interop-go/go_peer"; fi
exec python3 -B tests/interop/soak.py "$seconds" "$build/tests/interop/interop_peer" "$@"

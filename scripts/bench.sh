#!/bin/sh
# Our figures beside their limits: scripts/bench.sh BUILD_FOLDER [--only PART] [--json FILE] [--seconds N] [--hold-seconds N] [--longer].
# PART: node, deltas (a part of node), share, net, one of share's: meeting, missed, state, cost, or one of net's: handshake, stream, message, idle. The node's data lies in the build folder while it is measured, so
# that the limits are those of its file system.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 BUILD_FOLDER [--only PART] [--json FILE] [--seconds N] [--hold-seconds N] [--longer]" >&2; exit 2; }
build=$(cd "$1" && pwd)
shift
for file in cmd/merod bench/calimero_bench apps/kv-store.wasm; do
    [ -f "$build/$file" ] || { echo "$0: $build/$file is missing: build first (make)" >&2; exit 1; }
done
folder=$(mktemp -d "$build/bench.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
strip -o "$folder/merod" "$build/cmd/merod"
mkdir "$folder/homes"
"$build/bench/calimero_bench" "$@" "$build/cmd/merod" "$folder/merod" "$build/apps/kv-store.wasm" "$folder/homes"

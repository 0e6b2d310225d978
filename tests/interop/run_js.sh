#!/bin/sh
# js-libp2p, pinned by package-lock.json, installed into the build folder: run_js.sh OUR_PEER FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v npm >/dev/null && command -v python3 >/dev/null || { echo "skipped: no npm"; exit 77; }
mkdir -p "$2"
cp "$here/package.json" "$here/package-lock.json" "$here/js_peer.mjs" "$2/"
if ! cmp -s "$2/package-lock.json" "$2/installed.json"; then
    (cd "$2" && npm ci --no-audit --no-fund >npm.log 2>&1) || { echo "skipped: npm ci failed, see $2/npm.log"; exit 77; }
    cp "$2/package-lock.json" "$2/installed.json"
fi
node="$2/node_modules/.bin/node"
"$node" --version >/dev/null 2>&1 || { echo "skipped: $node does not run"; exit 77; }
exec python3 "$here/interop.py" "$1" js "$node" "$2/js_peer.mjs"

#!/bin/sh
# js-libp2p, pinned by package-lock.json, into a folder: get_js.sh FOLDER. Then FOLDER/node_modules/.bin/node FOLDER/js_peer.mjs runs; else exits 77.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v npm >/dev/null && command -v python3 >/dev/null || { echo "skipped: no npm"; exit 77; }
mkdir -p "$1"
cp "$here/package.json" "$here/package-lock.json" "$here/js_peer.mjs" "$1/"
if ! cmp -s "$1/package-lock.json" "$1/installed.json"; then
    (cd "$1" && npm ci --no-audit --no-fund >npm.log 2>&1) || { echo "skipped: npm ci failed, see $1/npm.log"; exit 77; }
    cp "$1/package-lock.json" "$1/installed.json"
fi
"$1/node_modules/.bin/node" --version >/dev/null 2>&1 || { echo "skipped: $1/node_modules/.bin/node does not run"; exit 77; }

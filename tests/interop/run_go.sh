#!/bin/sh
# go-libp2p, pinned by go.sum, built into the build folder: run_go.sh OUR_PEER FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null && command -v python3 >/dev/null || { echo "skipped: no go"; exit 77; }
mkdir -p "$2"
(cd "$here/go" && GOFLAGS=-mod=readonly go build -o "$2/go_peer" . >"$2/build.log" 2>&1) || { echo "skipped: go build failed, see $2/build.log"; exit 77; }
exec python3 "$here/interop.py" "$1" go "$2/go_peer"

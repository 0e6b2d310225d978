#!/bin/sh
# go-libp2p, pinned by go.sum, built into a folder: get_go.sh FOLDER. Then FOLDER/go_peer runs; else exits 77.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null && command -v python3 >/dev/null || { echo "skipped: no go"; exit 77; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
(cd "$here/go" && GOFLAGS=-mod=readonly go build -o "$folder/go_peer" . >"$folder/build.log" 2>&1) || { echo "skipped: go build failed, see $folder/build.log"; exit 77; }

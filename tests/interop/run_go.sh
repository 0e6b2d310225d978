#!/bin/sh
# Our peer with go-libp2p: run_go.sh OUR_PEER FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/get_go.sh" "$2"
exec python3 -B "$here/interop.py" "$1" go "$2/go_peer"

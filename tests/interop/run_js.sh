#!/bin/sh
# Our peer with js-libp2p: run_js.sh OUR_PEER FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/get_js.sh" "$2"
exec python3 -B "$here/interop.py" "$1" js "$2/node_modules/.bin/node" "$2/js_peer.mjs"

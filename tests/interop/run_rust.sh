#!/bin/sh
# rust-libp2p, what the network's own nodes are made of, pinned by Cargo.lock and built once for this machine: run_rust.sh OUR_PEER OUR_DISCOVERY_PEER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CALIMERO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/calimero}/interop-rust
command -v cargo >/dev/null && command -v python3 >/dev/null || { echo "skipped: no cargo"; exit 77; }
mkdir -p "$target"
manifest=$here/rust/Cargo.toml
cargo fetch --locked --manifest-path "$manifest" >"$target/build.log" 2>&1 || { echo "skipped: crates cannot be had, see $target/build.log"; exit 77; }
if ! cargo build --locked --release --manifest-path "$manifest" --target-dir "$target" >>"$target/build.log" 2>&1; then
    tail -n 20 "$target/build.log"
    grep -q 'could not compile .rust-peer' "$target/build.log" && exit 1
    echo "skipped: the crates do not build here (cargo too old?), see $target/build.log"
    exit 77
fi
python3 -B "$here/interop.py" "$1" rust "$target/release/rust-peer"
exec python3 -B "$here/discovery.py" "$2" "$target/release/rust-peer"

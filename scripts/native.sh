#!/bin/sh
# Builds third_party/native (the pinned crates) once per lock file, source and compiler, in a cache outside the tree, and prints
# the cache folder: lib/libcalimero_native.a and include/. Nothing to do when it is there.
set -eu
cd "$(dirname "$0")/.."
# The first compiler that is new enough: the one asked for, the one in the path (rustup's, say), Debian's rustc-web.
recent() { "$1" --version 2>/dev/null | awk '{split($2, v, "."); ok = v[1] > 1 || (v[1] == 1 && v[2] >= 95)} END {exit !ok}'; }
rustc=""
for candidate in "${RUSTC:-}" rustc /usr/bin/rustc; do
    if [ -n "$candidate" ] && recent "$candidate"; then
        rustc=$(command -v "$candidate")
        break
    fi
done
if [ -z "$rustc" ]; then
    echo "no rustc 1.95 or newer: install rustc-web and cargo-web, or a current rustup toolchain" >&2
    exit 1
fi
cargo=${CARGO:-$(dirname "$rustc")/cargo}
export RUSTC="$rustc"
key=$( (cat third_party/native/Cargo.toml third_party/native/Cargo.lock third_party/native/build.rs \
    third_party/native/src/lib.rs third_party/native/include/native.h; "$rustc" --version) | sha256sum | cut -c1-16)
cache=${CALIMERO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/calimero}
out=$cache/native-$key
if [ ! -f "$out/done" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/native.lock"
    flock 9 # two builds at once would write the same folder
    if [ ! -f "$out/done" ]; then
        echo "building the WebAssembly engine and SQLCipher into $out (4 to 9 minutes, once)" >&2
        rm -rf "$out" && mkdir -p "$out/lib" "$out/include"
        # All packages, also those for other systems: the build script asks cargo where each of ours lies, offline.
        "$cargo" fetch --locked --manifest-path third_party/native/Cargo.toml >&2
        CALIMERO_NATIVE_INCLUDE=$out/include CARGO_TARGET_DIR=$out/target \
            "$cargo" build --locked --release --manifest-path third_party/native/Cargo.toml >&2
        cp "$out/target/release/libcalimero_native.a" "$out/lib/"
        cp third_party/native/include/native.h "$out/include/"
        rm -rf "$out/target"
        touch "$out/done"
    fi
fi
echo "$out"

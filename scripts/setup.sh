#!/bin/sh
# Installs what the build needs and lacks, from Debian's packages: run by `make`, does nothing when all is there.
set -eu
packages="gcc g++ cmake ninja-build pkg-config libuv1-dev libsodium-dev libssl-dev libcurl4-openssl-dev libarchive-dev
liblz4-dev zlib1g-dev node-llhttp libwslay-dev libprotobuf-c-dev protobuf-c-compiler libcmocka-dev clang-14 lld-14 llvm-14 libclang-rt-14-dev clang-format-14 curl python3 iproute2"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
# The pinned crates need rustc 1.95 or newer: rustup's, or Debian's rustc-web (the same test as in native.sh).
recent() { "$1" --version 2>/dev/null | awk '{split($2, v, "."); ok = v[1] > 1 || (v[1] == 1 && v[2] >= 95)} END {exit !ok}'; }
if ! recent "${RUSTC:-rustc}" && ! recent /usr/bin/rustc; then missing="$missing rustc-web cargo-web"; fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages:$missing" >&2
    echo "install them as root: apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing" >&2
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2

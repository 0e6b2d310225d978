#!/bin/bash
# What `make install` puts somewhere is enough to build the examples with pkg-config, and nothing of the tree is needed.
# Arguments: the build folder, the source folder, the C compiler.
set -eu
build=$1 source=$2 cc=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
command -v pkg-config >/dev/null || { echo "skipped: no pkg-config"; exit 77; }
cmake --install "$build" --prefix "$dir/usr" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
export PKG_CONFIG_PATH=$(dirname "$(find "$dir/usr" -name calimero.pc)")
for name in embed chat shared; do
    cp "$source/examples/$name.c" "$dir"
    # shellcheck disable=SC2046
    (cd "$dir" && $cc -O2 -o $name $name.c $(pkg-config --cflags --libs calimero))
done
code=0
"$dir/chat" 2>"$dir/usage" || code=$?
[ $code = 2 ] && grep -q usage "$dir/usage"
"$dir/embed" "$dir/home" "$build/apps/kv-store.wasm" | grep -q hello
"$dir/shared" "$dir/shared-home" "$build/apps/kv-store.wasm" >"$dir/shared.out" 2>"$dir/shared.err" || { cat "$dir/shared.err"; exit 1; }
grep -q 'alice hears: Inserted {"key":"answer"' "$dir/shared.out" && grep -q "both hold the same state" "$dir/shared.out" ||
    { echo "FAILED: the shared context:"; cat "$dir/shared.out"; exit 1; }
size=$(stat -c %s "$dir/chat")
[ "$size" -lt 8000000 ] || { echo "FAILED: chat has $size bytes: the whole node is in it"; exit 1; }
case "$("$dir/usr/bin/merod" --version)" in *merod*) ;; *) exit 1 ;; esac
echo "all passed"

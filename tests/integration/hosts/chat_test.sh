#!/bin/bash
# examples/chat: two that talk, one with the other's address. Argument: the program.
set -eu
chat=$1
dir=$(mktemp -d)
trap 'kill $one $two 2>/dev/null || true; rm -rf "$dir"' EXIT
one='' two=''
die() { echo "FAILED: $*"; head -n 50 "$dir"/*.out "$dir"/*.err; exit 1; }
mkfifo "$dir/one.in" "$dir/two.in" "$dir/never"
awaits() { # FILE TEXT
    local end=$((SECONDS + 30))
    until grep -q -- "$2" "$dir/$1" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || die "no '$2' in $1"
        read -r -t 0.02 <>"$dir/never" || true
    done
}
"$chat" one <"$dir/one.in" >"$dir/one.out" 2>"$dir/one.err" & one=$!
exec 3>"$dir/one.in"
awaits one.err "reachable at /ip4/127.0.0.1"
address=$(sed -n 's/.*reachable at \(.*127.0.0.1.*\)/\1/p' "$dir/one.err" | head -n 1)
"$chat" two "$address" <"$dir/two.in" >"$dir/two.out" 2>"$dir/two.err" & two=$!
exec 4>"$dir/two.in"
awaits one.out "is here"
awaits two.out "is here"
echo "hello from one" >&3
awaits two.out "one: hello from one"
echo "hello from two" >&4
awaits one.out "two: hello from two"
exec 4>&-
wait $two || die "chat ended with $?"
awaits one.out " left"
exec 3>&-
wait $one || die "chat ended with $?"
"$chat" 2>/dev/null && die "no name is no error" || true
"$chat" x nonsense </dev/null 2>"$dir/usage" && die "no address is no error" || true
grep -q "nonsense is no address" "$dir/usage"
echo "all passed"

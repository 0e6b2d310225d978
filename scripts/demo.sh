#!/bin/bash
# Three people, three nodes, one context, with the programs that `make` built: demo.sh BUILD_FOLDER
#
# All on this machine, on free ports of loopback and in a folder that is removed at the end.
set -eu
build=$(realpath "$1")
work=$(mktemp -d /tmp/calimero-demo-XXXXXX)
pids=''

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
finish() {
    # shellcheck disable=SC2086
    for pid in $pids $(cat "$work"/*.pid 2>/dev/null || true); do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
fail() {
    echo "FAILED: $*" >&2
    tail -n 20 "$work"/*.log >&2
    exit 1
}
until_true() { # WHAT COMMAND...: for at most a minute
    local what=$1 tries=0
    shift
    until "$@" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || fail "$what"
        sleep 0.05
    done
}

# What is shown is what is run; only --home and the build folder are left out of the text. What the script asks for its
# own checks (ids, state roots, writes by the hundred) is not shown.
merod() { "$build/cmd/merod" --home "$work" "$@"; }
meroctl() { "$build/cmd/meroctl" --home "$work" "$@"; }
show() { # as one would type it, and an invitation shortened
    local word text='  $'
    for word in "$@"; do
        case "$word" in *[\{\ ]*) text="$text '$word'" ;; *) text="$text $word" ;; esac
    done
    echo "$text" | sed 's/\(calimero1[a-z0-9]\{12\}\)[a-z0-9]*/\1.../'
}
run() {
    show "$@"
    "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2 && fail "$1 failed"; }
    sed '/^null$/d; s/^/  /' "$work/out" | cut -c -150
}
json() { # FIELD.FIELD COMMAND...
    local path=$1
    shift
    "$@" --output-format json | python3 -c 'import json,sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."): value = value[int(key) if key.isdigit() else key]
print(value if isinstance(value, str) else json.dumps(value))' "$path"
}
free_ports() {
    python3 -c 'import socket
all = [socket.socket() for _ in range(6)]
for s in all: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in all])'
}

start() { # NODE
    "$build/cmd/merod" --home "$work" --node "$1" run >>"$work/$1.log" 2>&1 &
    echo $! >"$work/$1.pid"
    disown
    until_true "$1 does not start" curl -fsS -o /dev/null "$(api "$1")/admin-api/ready"
}
stop() { # NODE [SIGNAL]
    local pid
    pid=$(cat "$work/$1.pid")
    kill "-${2-TERM}" "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    rm "$work/$1.pid"
}
api() { cat "$work/$1.api"; }
rpc() { # NODE METHOD ARGS -> the answer, without starting a program for it
    curl -fs -H 'Content-Type: application/json' "$(api "$1")/jsonrpc" \
        -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"execute\",\"params\":{\"contextId\":\"$context\",\"method\":\"$2\",\"argsJson\":$3}}"
}
write() { # NODE PREFIX COUNT
    local i
    for i in $(seq "$3"); do
        rpc "$1" set "{\"key\":\"$2-$i\",\"value\":\"$i\"}" | grep -q '"result"' || fail "a write on $1"
    done
}
root() { json data.contextStateHash meroctl --node "$1" context get notes; }
same_roots() { # NODE...
    local first node
    first=$(root "$1")
    for node in "$@"; do [ "$(root "$node")" = "$first" ] || return 1; done
}
show_roots() {
    until_true "the states of $* do not become equal" same_roots "$@"
    for node in "$@"; do echo "  state root on $node  $(root "$node")"; done
}
reads() { rpc "$1" get "{\"key\":\"$2\"}" | grep -q '"output":"'; }
watch() { # NODE: events go to a file
    "$build/cmd/meroctl" --home "$work" --node "$1" context watch notes >"$work/$1.events" 2>"$work/$1.watch" &
    pids="$pids $!"
    disown
    until_true "$1 does not watch" grep -q watching "$work/$1.watch"
}
hears() { # NODE KEY
    until_true "no event on $1" grep -q "\"$2\"" "$work/$1.events"
    echo "  $1's watch prints: $(grep "\"$2\"" "$work/$1.events" | head -1 | sed 's/^ *//')"
}

say "1. Three people, each with a node"
read -r -a ports <<<"$(free_ports)"
i=0
for node in alice bob carol; do
    set -- merod --node $node init --server-port "${ports[i]}" --swarm-port "${ports[i + 1]}" --server-host 127.0.0.1 \
        --swarm-host 127.0.0.1
    show "$@"
    show merod --node $node run
    "$@" >"$work/init" 2>&1 || { cat "$work/init"; exit 1; }
    echo "http://127.0.0.1:${ports[i]}" >"$work/$node.api"
    i=$((i + 2))
    start $node
done
echo "  running; none knows of another"

say "2. Alice installs an application and founds a context"
show meroctl --node alice app install --path apps/kv-store.wasm
app=$(json data.applicationId meroctl --node alice app install --path "$build/apps/kv-store.wasm")
run meroctl --node alice namespace create --application-id "$app" --name friends
run meroctl --node alice context create --application-id "$app" --group-id friends --name notes
context=$(json data.value meroctl --node alice context alias get notes)
run meroctl --node alice call set --context notes --args '{"key":"greeting","value":"hello"}'

say "3. One line of text for Bob, who has no application and no address"
show meroctl --node alice namespace invite friends --code
line=$(meroctl --node alice namespace invite friends --code)
echo "  $line" | fold -w 120
run meroctl --node bob app list
run meroctl --node bob namespace join "$line" --name friends
run meroctl --node bob context alias add notes "$context"
until_true "bob cannot read" reads bob greeting
run meroctl --node bob app list
run meroctl --node bob call get --context notes --args '{"key":"greeting"}'

say "4. Each sees the other's writes at once"
show meroctl --node alice context watch notes
show meroctl --node bob context watch notes
watch alice
watch bob
run meroctl --node bob call set --context notes --args '{"key":"answer","value":"hello yourself"}'
hears alice answer
run meroctl --node alice call set --context notes --args '{"key":"again","value":"well met"}'
hears bob again

say "5. Carol joins too"
run meroctl --node carol namespace join "$line" --name friends
run meroctl --node carol context alias add notes "$context"
until_true "carol cannot read" reads carol again
run meroctl --node carol call get --context notes --args '{"key":"answer"}'
run meroctl --node alice group members list friends
show_roots alice bob carol

say "6. Bob goes offline; both sides write; they meet again"
stop bob
echo "  bob is off: alice and carol write 100 keys each"
write alice from-alice 100
write carol from-carol 100
until_true "carol does not have alice's" reads carol from-alice-100
stop alice
stop carol
start bob
echo "  bob is back when the others are off, and writes 100 keys to nobody"
write bob from-bob 100
run meroctl --node bob context sync-status notes
start alice
start carol
echo "  all three are on"
show_roots alice bob carol
for key in from-alice-100 from-bob-100 from-carol-100; do
    for node in alice bob carol; do reads $node $key || fail "$node has no $key"; done
done
echo "  each has the keys of all"

say "7. Alice is killed (kill -9) while she writes, and comes back"
acknowledge() { # one acknowledged key a line
    local n=0
    while rpc alice set "{\"key\":\"w$1-$n\",\"value\":\"$n\"}" | grep -q '"result"'; do
        echo "w$1-$n" >>"$work/acknowledged"
        n=$((n + 1))
    done
}
for writer in 1 2 3 4; do
    acknowledge $writer 2>/dev/null &
    pids="$pids $!"
    disown
done
sleep 2
show kill -9 "$(cat "$work/alice.pid")"
stop alice KILL
sleep 0.3
acknowledged=$(wc -l <"$work/acknowledged")
echo "  $acknowledged writes were acknowledged before"
start alice
show_roots alice bob carol
missing=0
while read -r key; do
    for node in alice bob; do reads $node "$key" || { missing=$((missing + 1)) && echo "  lost on $node: $key"; }; done
done <"$work/acknowledged"
echo "  acknowledged writes missing on alice or bob: $missing"
[ "$missing" -eq 0 ] || fail "acknowledged writes are missing"

say "8. Alice removes Carol"
run meroctl --node carol account show
carol=$(json data.accountId meroctl --node carol account show)
before=$(root carol)
run meroctl --node alice group members remove friends "$carol" --yes
run meroctl --node alice group members list friends
run meroctl --node alice call set --context notes --args '{"key":"secret","value":"not for carol"}'
until_true "bob has no secret" reads bob secret
run meroctl --node bob call get --context notes --args '{"key":"secret"}'
show meroctl --node carol call get --context notes --args '{"key":"secret"}'
if meroctl --node carol call get --context notes --args '{"key":"secret"}' >"$work/refused" 2>&1; then
    fail "carol reads: $(cat "$work/refused")"
fi
sed "s/^/  /" "$work/refused" | cut -c -150
[ "$(root carol)" = "$before" ] || fail "carol's state went on"
echo "  state root on carol  $before (as it was)"
show_roots alice bob

say "9. What is on the disks"
for node in alice bob carol; do
    stop $node
    run merod --node $node check
done
for node in alice bob carol; do
    if grep -rqs -e "not for carol" -e "hello yourself" "$work/$node"; then fail "plaintext on the disk of $node"; fi
done
echo "  no value of the context stands in a file of any node: all is encrypted"
say "Nothing was lost, and nothing was read by whoever may not."

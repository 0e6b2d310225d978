#!/bin/sh
# A node from nothing to a survived kill -9, with the programs that `make` built: demo.sh BUILD_FOLDER
set -eu
build=$1
work=$(mktemp -d /tmp/calimero-demo-XXXXXX)
port=${DEMO_PORT:-2628}
merod="$build/cmd/merod --home $work --node demo"
api=http://127.0.0.1:$port
mero="$build/cmd/meroctl --home $work --api $api"
pids=""

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '  $ %s\n' "$*"; }
finish() {
    for pid in $pids $(cat "$work/node.pid" 2>/dev/null || true); do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

field() { python3 -c 'import json,sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."): value = value[key]
print(value if isinstance(value, str) else json.dumps(value))' "$1"; }

start() {
    $merod run >>"$work/node.log" 2>&1 &
    echo $! >"$work/node.pid"
    tries=0
    until curl -fs "$api/admin-api/ready" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 200 ] || ! kill -0 "$(cat "$work/node.pid")" 2>/dev/null; then
            echo "the node does not start; its log:" >&2
            cat "$work/node.log" >&2
            exit 1
        fi
        sleep 0.05
    done
}
rpc() { # METHOD ARGS -> the answer
    curl -fs -H 'Content-Type: application/json' "$api/jsonrpc" \
        -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"execute\",\"params\":{\"contextId\":\"$context\",\"method\":\"$1\",\"argsJson\":$2}}"
}
root() { curl -fs "$api/admin-api/contexts/$context" | field data.contextStateHash; }

say "1. A new node: its keys, its encrypted store"
show merod --node demo init --server-port "$port" --swarm-port $((port + 1))
$merod init --server-port "$port" --swarm-port $((port + 1)) >"$work/init.log" 2>&1 || { cat "$work/init.log"; exit 1; }
start
echo "  running, pid $(cat "$work/node.pid"), $api"

say "2. An application: C, compiled to WebAssembly"
show meroctl app install --path apps/kv-store.wasm
app=$($mero --output-format json app install --path "$(realpath "$build/apps/kv-store.wasm")" | field data.applicationId)
echo "  application $app ($(wc -c <"$build/apps/kv-store.wasm") bytes)"

say "3. A namespace and a context"
show meroctl namespace create --application-id "$app" --name demo
namespace=$($mero --output-format json namespace create --application-id "$app" --name demo | field data.namespaceId)
show meroctl context create --application-id "$app" --group-id "$namespace" --name kv
context=$($mero --output-format json context create --application-id "$app" --group-id "$namespace" --name kv | field data.contextId)
echo "  context $context, root $(root)"

say "4. An event on a WebSocket"
show meroctl context watch kv
$mero --output-format json context watch kv >"$work/events" 2>"$work/watch.log" &
pids="$pids $!"
sleep 0.5
show meroctl call set --context kv --args "'{\"key\":\"greeting\",\"value\":\"hello\"}'"
$mero call set --context kv --args '{"key":"greeting","value":"hello"}'
tries=0
until grep -q Inserted "$work/events" 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then
        echo "no event arrived" >&2
        cat "$work/watch.log" >&2
        exit 1
    fi
    sleep 0.05
done
echo "  event: $(head -c 300 "$work/events" | tr -d '\n')"
echo "  get over JSON-RPC: $(rpc get '{"key":"greeting"}')"

say "5. kill -9 in the middle of writes"
write() { # WRITER: one acknowledged key a line
    number=0
    while rpc set "{\"key\":\"w$1-$number\",\"value\":\"v$number\"}" | grep -q '"result"'; do
        echo "w$1-$number v$number" >>"$work/acknowledged-$1"
        number=$((number + 1))
    done
}
for writer in 1 2 3 4; do
    write $writer 2>/dev/null &
    pids="$pids $!"
done
sleep 3
show kill -9 "$(cat "$work/node.pid")"
kill -9 "$(cat "$work/node.pid")"
sleep 0.3
acknowledged=$(cat "$work"/acknowledged-* | wc -l)
echo "  $acknowledged writes were acknowledged before it died"

say "6. Started again"
start
missing=0
for file in "$work"/acknowledged-*; do
    while read -r key value; do
        rpc get "{\"key\":\"$key\"}" | grep -q "\"output\":\"$value\"" || { echo "  lost: $key"; missing=$((missing + 1)); }
    done <"$file"
done
before=$(root)
kill -9 "$(cat "$work/node.pid")"
start
after=$(root)
echo "  acknowledged writes missing: $missing of $acknowledged"
echo "  state root                  $before"
echo "  after another kill -9       $after"
say "7. A second node finds the first"
peer=$(curl -fs "$api/admin-api/network/status" | field localPeerId)
show merod --node second init --server-port $((port + 2)) --swarm-port $((port + 3)) --boot-nodes "/ip4/127.0.0.1/tcp/$((port + 1))/p2p/$peer"
second="$build/cmd/merod --home $work --node second"
$second init --server-port $((port + 2)) --swarm-port $((port + 3)) --boot-nodes "/ip4/127.0.0.1/tcp/$((port + 1))/p2p/$peer" >"$work/init2.log" 2>&1 ||
    { cat "$work/init2.log"; exit 1; }
show merod --node second run
$second run >"$work/second.log" 2>&1 &
pids="$pids $!"
tries=0
until curl -fs "http://127.0.0.1:$((port + 2))/admin-api/peers" 2>/dev/null | grep -q "$peer"; do
    tries=$((tries + 1))
    if [ $tries -gt 200 ]; then
        echo "the nodes do not find each other" >&2
        cat "$work/second.log" >&2
        exit 1
    fi
    sleep 0.05
done
show meroctl peers
$mero peers | sed 's/^/  /'
kill -TERM "$(cat "$work/node.pid")"
while kill -0 "$(cat "$work/node.pid")" 2>/dev/null; do sleep 0.05; done
show merod --node demo check
$merod check
[ "$missing" -eq 0 ] && [ "$before" = "$after" ] || exit 1
say "Nothing was lost."

#!/bin/bash
# merod and meroctl from init to rekey, as a person uses them. Arguments: merod, meroctl, a kv-store.wasm. Waits for events, never
# for time. Needs python3 for a free port and a terminal.
set -eu
merod=$1 meroctl=$2 wasm=$3
dir=$(mktemp -d)
pid=''
trap '[ -z "$pid" ] || kill -KILL $pid 2>/dev/null || true; rm -rf "$dir"' EXIT
export HOME=$dir
unset CALIMERO_HOME XDG_CONFIG_HOME CALIMERO_LOG RUST_LOG CALIMERO_PASSPHRASE
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port) swarm=$(free_port)

say() { echo "--- $*"; }
die() { echo "FAILED: $*" >&2; [ ! -f "$dir/log" ] || cat "$dir/log" >&2; exit 1; }
# run RC COMMAND...: output in $out, what went to standard error in $err.
run() {
    local want=$1 got=0
    shift
    out=$("$@" 2>"$dir/err" </dev/null) || got=$?
    err=$(cat "$dir/err")
    [ "$got" = "$want" ] || die "'$*' ended with $got instead of $want: $out $err"
}
has() { case "$1" in *"$2"*) ;; *) die "'$1' does not hold '$2'" ;; esac; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
d() { "$merod" --node n1 "$@"; }
c() { "$meroctl" --node n1 "$@"; }
j() { "$meroctl" --node n1 --output-format json "$@"; }

start() {
    rm -f "$dir/pipe" && mkfifo "$dir/pipe"
    "$merod" --node n1 run "$@" 2>"$dir/pipe" &
    pid=$!
    exec 3<"$dir/pipe"
    local line ready=''
    while read -r line <&3; do
        echo "$line" >>"$dir/log"
        case "$line" in *"is ready"*) ready=1 && break ;; esac
    done
    [ -n "$ready" ] || die "the node did not start"
    cat <&3 >>"$dir/log" &
}
stop() {
    local code=0
    kill "-$1" "$pid"
    wait "$pid" || code=$?
    pid=''
    [ "$code" = "${2-0}" ] || die "merod ended with $code after SIG$1"
}

say "wrong usage is told apart, and help teaches"
run 2 "$merod" confg; has "$err" "did you mean 'config'"
run 2 "$merod" --node n1 init --sever-port 1; has "$err" "did you mean '--server-port'"
run 2 "$merod" --node n1 init --server-port 70000; has "$err" "from 1 to 65535"
run 2 "$merod" --node n1 init --boot-nodes nonsense; has "$err" "no address like"
run 2 "$merod" --node n1 init --boot-nodes /ip4/127.0.0.1/tcp/2428/p2p/PEER_ID; has "$err" "no peer id"
run 2 "$merod" --node ../x init
run 2 "$merod" init; has "$err" "--node NAME"
run 2 "$meroctl" app pack --version
run 2 "$meroctl" --api http://a --node b peers; has "$err" "exclude"
run 0 "$merod" --version; has "$out" "merod "
run 0 "$meroctl" context create --help; has "$out" "--group-id HEX"; has "$out" "Example:"
for program in "$merod" "$meroctl"; do
    for shell in bash zsh fish; do run 0 "$program" completion $shell; done
    "$program" completion bash | bash -n
done
run 2 "$merod" completion csh

say "init makes a node once, and tells nobody about it"
run 1 d run; has "$err" "merod init"
run 0 d init --server-port "$port" --swarm-port "$swarm"; has "$out" "run"
[ "$(stat -c %a "$dir/.calimero/n1/config.toml" "$dir/.calimero/n1/master.key" | tr '\n' ' ')" = "600 600 " ] || die "modes"
run 0 d config; has "$out" "nodes = []"; has "$out" 'peer_id = "12D3Koo'
peer=$(echo "$out" | sed -n 's/^peer_id = "\(.*\)"$/\1/p')
run 0 d init; has "$err" "is a node already"
run 1 d init --force --auth-mode embedded; has "$err" "not there yet"
run 1 d config sync.timeout_ms=1; has "$err" "from 1000 to 300000"
run 0 d config sync.timeout_ms=31000
run 0 d config; has "$out" "timeout_ms = 31000"
run 1 d config 'server.auth_mode="embedded"'
run 0 d check; has "$out" "all is well"

say "nobody answers yet"
run 101 c app list; has "$err" "is it running?"
run 101 j app list; has "$out" '{"error":'
run 1 "$meroctl" --node nobody app list; has "$err" "no node 'nobody'"

say "a place in the network"
start
has "$(cat "$dir/log")" "/p2p/$peer"
run 0 j network status; has "$out" "\"localPeerId\":\"$peer\""; has "$out" '"listenAddrs":["/ip4/'; has "$out" '"topics":[]'
run 0 c network status; has "$out" "reachability: unknown"
run 0 c peers; has "$out" "count: 0"
stop TERM
key=23jhTaZr634ThMawuz8v8EmFYCtYqC7TNzgta8dDbPMAzpW8bMFbj51MLD2JwZvS1nnLoD9PkLcBoL8KeksX1mHFSm4yR # of seed 01 02 .. 20
run 0 d config "identity={ peer_id = \"$peer\", keypair = \"$key\" }"
run 1 d run; has "$err" "not to $peer" # the key is another peer's
run 0 d config "identity={ keypair = \"$key\" }"
run 0 d run --exit-on-eof 0; has "$err" "moved into the store"
run 0 d config; has "$out" "$(echo "$err" | sed -n 's/.*moved into the store (\(.*\))/\1/p')"
case "$out" in *"$key"*) die "the private key is still in config.toml" ;; esac

say "an application, a namespace, a context"
start
run 0 c app keygen "$dir/key"; has "$out" "did:key:z6Mk"
run 1 c app keygen "$dir/key"
run 0 c app pack "$wasm" --package com.example.kv --version 1.0.0 --name KV --output "$dir/kv.mpk"
run 101 c app install --path "$dir/kv.mpk" # unsigned
run 0 c app sign "$dir/kv.mpk" --key "$dir/key"
run 0 j app install --path "$dir/kv.mpk"
app=$(echo "$out" | field applicationId)
run 0 c app list; has "$out" "com.example.kv"
run 0 c app get "$app"; has "$out" "version: 1.0.0"
run 0 c app versions "$app"; has "$out" "1.0.0"
run 0 c app packages; has "$out" "com.example.kv"
run 0 c app get-latest-version com.example.kv; has "$out" "$app"
run 0 c app abi "$app"; has "$out" "methods"
run 1 c app install --path "$dir/nothing"
run 101 c app install --url http://localhost/x.wasm
run 0 j namespace create --application-id "$app" --name friends
ns=$(echo "$out" | field namespaceId)
run 0 c namespace list; has "$out" friends
run 0 c namespace get "$ns"; has "$out" "$app"
run 0 j namespace invite "$ns"; has "$out" inviter_signature
run 0 c group create "$ns" --name inner --visibility open
run 0 c group list "$ns"; has "$out" inner
run 2 c context create -a "$app"; has "$err" "--group-id"
run 2 c context create -a "$app" --group-id "$ns" --params '{'
run 0 j context create -a "$app" --group-id "$ns" --name notes
context=$(echo "$out" | head -1 | field contextId)
run 0 c context list; has "$out" "$context"

say "names for contexts"
run 1 c call len; has "$err" "no default set"
run 0 c context use notes
run 0 c context alias get; has "$out" "$context"
run 0 c context alias add again "$context"
run 0 c context alias list; has "$out" "again"
run 0 c context alias remove again
run 1 c context get again; has "$err" "neither the alias nor the id"
run 0 c context get notes storage; has "$out" sizeInBytes
run 0 c context identity list --owned

say "calls and events"
run 2 c call set --args '{'
run 0 c call set --args '{"key":"a","value":"1"}'
run 0 c call get --args '{"key":"a"}' -c notes; has "$out" '"1"'
run 0 j call get --args '{"key":"a"}' --id seven; has "$out" '"id":"seven"'
run 1 c call nothing; has "$err" "not found"
run 1 j call nothing; has "$out" '"error"'
mkfifo "$dir/events"
c context watch -n 1 2>"$dir/events" >"$dir/event" &
watcher=$!
read -r line <"$dir/events"; has "$line" "watching $context"
run 0 c call set --args '{"key":"b","value":"seen"}'
wait $watcher
has "$(cat "$dir/event")" seen
out=$(printf 'set {"key":"c","value":"3"}\nget {"key":"c"}\n:quit\n' | c call -i)
has "$out" '"3"'

say "blobs"
head -c 3000000 /dev/urandom >"$dir/blob"
run 0 j blob upload --file "$dir/blob"
blob=$(echo "$out" | field blob_id)
run 0 c blob info -b "$blob"; has "$out" "size: 3000000"
run 0 c blob download -b "$blob" -o "$dir/copy"
cmp "$dir/blob" "$dir/copy"
run 1 c blob delete -b "$blob"; has "$err" "--yes"
run 0 c blob delete -b "$blob" --yes
run 101 c blob info -b "$blob"
run 101 c blob download -b "$blob" -o "$dir/none"
[ ! -e "$dir/none" ] && [ ! -e "$dir/none.part" ] || die "a failed download left a file"

say "nodes by name"
run 0 "$meroctl" node add here "$dir/.calimero/n1"
run 0 "$meroctl" node add there http://127.0.0.1:1 --access-token secret
run 0 "$meroctl" node use here
run 0 "$meroctl" node list; has "$out" here
run 0 "$meroctl" health; has "$out" alive
[ "$(stat -c %a "$dir/.config/calimero/meroctl/nodes.toml")" = 600 ] || die "nodes.toml can be read by others"
run 101 "$meroctl" --node there health
run 0 "$meroctl" node remove here
run 1 "$meroctl" node use here

say "kill -9 loses nothing that was acknowledged"
run 0 c context get notes; before=$(echo "$out" | grep contextStateHash)
stop KILL 137
start
run 0 c context get notes; [ "$(echo "$out" | grep contextStateHash)" = "$before" ] || die "the root changed"
run 0 c call get --args '{"key":"c"}'; has "$out" '"3"'

say "backup of the running and of the stopped node"
run 1 d run; has "$err" "in use"
run 1 d check; has "$err" "in use"
run 0 d backup "$dir/b1"
run 1 d backup "$dir/b1"; has "$err" "empty folder"
stop TERM
run 0 d backup "$dir/b2"
mkdir "$dir/.calimero/copy" && cp -r "$dir/b1/." "$dir/.calimero/copy" && cp "$dir/.calimero/n1/master.key" "$dir/.calimero/copy"
run 0 "$merod" --node copy check; has "$out" "all is well"
run 0 d check; has "$out" "1 contexts"; has "$out" "all is well"

say "another key"
echo 'correct horse' >"$dir/pass"
echo 'something else' >"$dir/wrong"
run 2 d rekey
run 0 d rekey --new-key-passphrase-file "$dir/pass"
run 1 d check --key-passphrase-file "$dir/wrong"; has "$err" "wrong passphrase"
run 0 d check --key-passphrase-file "$dir/pass"
run 0 env CALIMERO_PASSPHRASE='correct horse' "$merod" --node n1 check
python3 - "$merod" <<'PY' || die "the passphrase was not asked for, or was shown"
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], [sys.argv[1], "--node", "n1", "check"])
seen = b""
while b"Passphrase: " not in seen:
    seen += os.read(terminal, 4096)
import termios
while termios.tcgetattr(terminal)[3] & termios.ECHO:
    pass
os.write(terminal, b"correct horse\n")
try:
    while chunk := os.read(terminal, 4096):
        seen += chunk
except OSError:
    pass
sys.exit(0 if os.waitpid(child, 0)[1] == 0 and b"all is well" in seen and b"horse" not in seen else 1)
PY
run 0 d rekey --key-passphrase-file "$dir/pass" --new-key-file "$dir/new.key"

say "merod run: exits, refusals"
start
stop INT
run 0 d run --exit-on-eof 0; has "$err" "end of --exit-on-eof" # standard input is /dev/null
run 1 d run --auth-mode embedded
run 0 d config "server.listen=[\"/ip4/0.0.0.0/tcp/$port\"]"
run 1 d run; has "$err" "--allow-unauthenticated"
run 0 d run --allow-unauthenticated --exit-on-eof 0
run 0 d config 'server.listen=["/ip4/127.0.0.1/tcp/'"$port"'"]'
run 1 d config 'server.listen=["/ip4/127.0.0.1/tcp/'"$port"'"]' 'swarm.listen=["/ip4/0.0.0.0/tcp/'"$port"'"]'; has "$err" clashes
run 0 d init --force --server-port "$port" --swarm-port "$swarm"
run 0 d check; has "$out" "0 contexts"
echo "all passed"

#!/bin/bash
# A context shared by two nodes, through merod and meroctl alone. Arguments: merod, meroctl, a kv-store.wasm. Waits for what it
# waits for, never for time. Needs python3 for free ports.
set -eu
merod=$1 meroctl=$2 wasm=$3
dir=$(mktemp -d)
trap 'kill -KILL $(cat "$dir"/*.pid 2>/dev/null) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT
export HOME=$dir
unset CALIMERO_HOME XDG_CONFIG_HOME CALIMERO_LOG RUST_LOG CALIMERO_PASSPHRASE
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

say() { echo "--- $*"; }
die() { echo "FAILED: $*" >&2; tail -n 30 "$dir"/*.log >&2 || true; exit 1; }
# run RC COMMAND...: output in $out, what went to standard error in $err.
run() {
    local want=$1 got=0
    shift
    out=$("$@" 2>"$dir/err" </dev/null) || got=$?
    err=$(cat "$dir/err")
    [ "$got" = "$want" ] || die "'$*' ended with $got instead of $want: $out $err"
}
has() { case "$1" in *"$2"*) ;; *) die "'$1' does not hold '$2'" ;; esac; }
hasnt() { case "$1" in *"$2"*) die "'$1' holds '$2'" ;; *) ;; esac; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
line_of() { sed -n "s/^$1: //p"; }
until_has() { # TEXT COMMAND...: until its output holds the text; at most a minute
    local text=$1 i
    shift
    for i in $(seq 600); do
        out=$("$@" 2>&1 </dev/null) || true
        case "$out" in *"$text"*) return ;; esac
        sleep 0.1
    done
    die "'$*' never says '$text': $out"
}
a() { "$meroctl" --node a "$@"; }
b() { "$meroctl" --node b "$@"; }
ja() { "$meroctl" --node a --output-format json "$@"; }

up() {
    "$merod" --node "$1" run >>"$dir/$1.log" 2>&1 &
    echo $! >"$dir/$1.pid"
    until_has alive "$meroctl" --node "$1" health
}
down() {
    kill -TERM "$(cat "$dir/$1.pid")"
    wait "$(cat "$dir/$1.pid")" || die "merod $1 ended with $?"
    rm "$dir/$1.pid"
}
for node in b a; do
    server=$(free_port)
    url=http://127.0.0.1:$server # in the end, that of a
    "$merod" --node $node init --server-port "$server" --swarm-port "$(free_port)" --swarm-host 127.0.0.1 >/dev/null
    up $node
done

say "a namespace, its context, one line of text"
run 0 ja app install --path "$(realpath "$wasm")"
app=$(echo "$out" | field applicationId)
run 0 a namespace create --application-id "$app" --name friends
ns=$(echo "$out" | line_of namespaceId)
run 0 ja context create -a "$app" --group-id friends --name notes
context=$(echo "$out" | head -1 | field contextId)
run 0 a call set -c notes --args '{"key":"a","value":"1"}'
run 0 a namespace invite friends --code
code=$out
has "$code" calimero1
[ "$(echo "$code" | wc -l)" = 1 ] || die "the line has several lines"
run 0 ja namespace invite friends --code; has "$out" '"code":"calimero1'; has "$out" inviter_signature
run 2 a namespace invite friends --role owner; has "$err" "read-only"
run 1 a namespace invite strangers; has "$err" "neither the id nor the name"
run 0 a namespace invite friends; has "$out" '{"invitation":{"inviter_identity":['
echo "$out" >"$dir/invitation.json"

say "what is no invitation is refused with words"
run 1 b namespace join nonsense; has "$err" "is no invitation"
run 1 b namespace join '{"data":{"invitations":[]}}'; has "$err" "give one of them"
case $code in *q) altered=${code%?}p ;; *) altered=${code%?}q ;; esac # one line in 32 ends with the letter itself
run 101 b namespace join "$altered"; has "$err" "copy"
run 101 b namespace join "$(printf '0%.0s' $(seq 64))" "$(cat "$dir/invitation.json")"; has "$err" "does not match"
run 2 b namespace join

say "one form of an invitation in the other, without a node"
run 0 a network status; peer=$(echo "$out" | line_of localPeerId)
convert() { "$meroctl" --api http://127.0.0.1:1 namespace invitation convert "$@"; }
run 0 convert "$code"; has "$out" '{"invitation":{"inviter_identity":['; hasnt "$out" calimero1
echo "$out" >"$dir/converted.json"
run 0 convert "$dir/converted.json"; plain=$out; has "$plain" calimero1
run 0 convert "$plain"; [ "$out" = "$(cat "$dir/converted.json")" ] || die "there and back is another: $out"
run 0 convert "$dir/invitation.json"; has "$out" calimero1
run 0 convert "$(ja namespace invite friends)"; has "$out" calimero1
run 0 convert --output-format json "$code"; has "$out" '{"data":{"invitation":{"invitation":'
address=/ip4/192.0.2.7/tcp/2428/p2p/$peer
run 0 convert "$dir/converted.json" --address "$address"; [ ${#out} -gt ${#plain} ] || die "no address in $out"
run 0 convert "$out" --address "$address" --output-format json; has "$out" '{"data":{"code":"calimero1'
run 1 convert "$plain" --address /ip4/192.0.2.7/tcp/2428; has "$err" "/p2p/"
run 1 convert "$plain" --address nonsense; has "$err" "nonsense"
run 1 convert nonsense; has "$err" "is no invitation"
run 1 convert "${code%??}"; has "$err" "copy all of it"
run 2 convert "$plain" $(for i in 1 2 3 4 5 6 7 8 9; do echo --address "/ip4/192.0.2.$i/tcp/1/p2p/$peer"; done); has "$err" "8 addresses"

say "joining by the line, without the application"
run 0 b app list; has "$out" none
out=$(echo "$code" | b namespace join - --name friends 2>"$dir/err") || die "joining failed"
has "$(cat "$dir/err")" "dialling /ip4/127.0.0.1/tcp/"
has "$out" "$ns"
until_has '"1"' b call get -c "$context" --args '{"key":"a"}'
run 0 b app list; has "$out" "$app"
run 0 b namespace list; has "$out" friends
run 0 b namespace join "$dir/invitation.json"; has "$out" memberAccount # a member already
has "$err" "no addresses to dial"
run 0 b context use "$context"
run 0 b call set --args '{"key":"b","value":"2"}'
until_has '"2"' a call get -c notes --args '{"key":"b"}'

say "events of the other, and whether both hold the same"
mkfifo "$dir/events"
b context watch -n 1 2>"$dir/events" >"$dir/event" &
watcher=$!
read -r line <"$dir/events"; has "$line" "watching $context"
run 0 a call set -c notes --args '{"key":"c","value":"seen"}'
wait $watcher
has "$(cat "$dir/event")" seen
run 0 b context sync
run 0 b context sync "$context"
run 0 b context sync -a
run 0 b context sync-status --wait 60; has "$out" "state: in sync"; has "$out" "12D3Koo"
run 0 a context resync notes --force; has "$out" resyncStarted
run 0 a context identities notes
run 0 a peers; has "$out" "count: 1"; has "$out" protocolVersion; has "$out" calimero

say "offline and back"
down b
run 0 "$merod" --node b check; has "$out" "all is well"
run 0 a call set -c notes --args '{"key":"d","value":"meanwhile"}'
up b
until_has meanwhile b call get --args '{"key":"d"}'
run 0 a context get notes; root=$(echo "$out" | line_of contextStateHash)
until_has "contextStateHash: $root" b context get

say "members, by account and by name"
run 0 b account show
guest=$(echo "$out" | line_of accountId) guest_key=$(echo "$out" | line_of publicKey)
run 0 a group members list friends; has "$out" "$guest"
run 0 a group member-metadata set friends "$guest" --name bea --set x=1 --set y=2
run 0 a group member-metadata set friends bea --unset x --set z=3
run 0 a group member-metadata get friends bea; has "$out" "z: 3"; has "$out" "y: 2"; hasnt "$out" "x: 1"
run 2 a group member-metadata set friends bea; has "$err" "nothing to set"
run 2 a group member-metadata set friends bea --set x; has "$err" "KEY=VALUE"
run 1 a group members set-role friends nobody admin; has "$err" "no member's name"
run 2 a group members set-role friends bea king; has "$err" "read-only"
run 0 a group members set-role friends bea read-only
run 0 a group members check-access friends bea; has "$out" "role: ReadOnly"
until_has '"ReadOnly"' b --output-format json group members list "$ns"
run 1 b call set --args '{"key":"lost","value":"9"}'; has "$err" "read-only member"; has "$err" "nothing was kept"
run 0 b call get --args '{"key":"d"}'; has "$out" meanwhile
run 0 a group members set-role friends bea member
run 0 a group members set-capabilities friends bea --can-invite-members --can-join-open-subgroups
run 0 a group members get-capabilities friends bea; has "$out" "may invite members"; has "$out" "capabilities: 6"
run 0 ja group members get-caps friends "$guest_key"; has "$out" '{"capabilities":6}'
run 2 a group members auto-follow friends bea --contexts on; has "$err" "together"
run 0 a group members auto-follow friends bea --contexts on --subgroups off
run 0 a group members devices friends; has "$out" "$guest_key"
run 101 b group members remove friends "$(a account show | line_of accountId)" --yes

say "groups by name, moved, set, deleted"
run 0 ja group create friends --name inner --visibility open
inner=$(echo "$out" | field groupId)
run 0 a group create friends/inner --name deep
run 0 a group subgroups friends/inner; has "$out" deep
run 0 a group get friends/inner/deep; has "$out" "parentId: $inner"
run 0 a group get deep; has "$out" "parentId: $inner" # the only one of the name, wherever it is
run 0 a group subgroups inner; has "$out" deep
run 0 ja group create inner --name twin; twin=$(echo "$out" | field groupId)
run 0 ja group create friends --name twin; other=$(echo "$out" | field groupId)
run 1 a group get twin; has "$err" "ambiguous"; has "$err" "$twin"; has "$err" "$other"
run 0 a group get inner/twin; has "$out" "$twin"
run 0 a group delete "$other" --yes
run 0 a group delete twin --yes
run 0 ja namespace create --application-id "$app" --name inner; has "$out" '{"data":{"namespaceId":"'
double=$(echo "$out" | field namespaceId)
run 0 a namespace get inner; has "$out" "$double" # a namespace before a group
run 0 ja namespace create --application-id "$app" --name inner; has "$err" "1 other namespace"; has "$err" "ambiguous"
other=$(echo "$out" | field namespaceId)
run 1 a namespace invite inner; has "$err" "$double"; has "$err" "$other"; has "$err" "Give the id"
run 0 a namespace delete "$double" --yes
run 0 a namespace delete "$other" --yes
run 0 a group reparent friends/inner/deep friends; has "$out" true
run 0 a group info friends/deep; has "$out" "parentId: $ns"
run 1 a group get friends/inner/deep; has "$err" "neither the id nor the name"
run 0 a group settings set-default-caps friends/deep --can-create-context
run 0 a group settings set-subgroup-vis friends/deep --mode open
run 0 a group settings get friends/deep; has "$out" "open"; has "$out" "may create contexts"
run 0 a group metadata set friends/deep --name deeper --set colour=blue
run 0 a group metadata get friends/deeper; has "$out" "colour: blue"
run 0 a group metadata set friends/deeper --clear-name --replace-data
run 0 a group contexts list friends; has "$out" "$context"
run 0 a group context-metadata set friends notes --set topic=all
run 0 a group context-metadata get friends notes; has "$out" "topic: all"
until_has "$inner" b group subgroups friends
run 0 b group join-inherited "$inner"; has "$out" wasInherited
run 0 a group members add friends/inner "$guest" admin
run 0 a group members list friends/inner; has "$out" "$guest"
run 0 a group sync friends; has "$out" contextCount
run 1 a group delete "$inner"; has "$err" "--yes"
run 0 a group delete "$inner" --yes
run 0 a group subgroups friends; hasnt "$out" "$inner"

say "another device of an account, with its code read out"
run 2 b account pair-init "$ns"; has "$err" "accountRootPublicKey"
run 0 a account show; root_key=$(echo "$out" | line_of accountRootPublicKey)
run 1 b account pair-init strangers --root-key "$root_key"; has "$err" "neither the id nor the name"
run 0 b account pair-init friends --root-key "$root_key"; has "$out" "pair-complete $ns"
pairing=$(echo "$out" | sed -n 's/.*meroctl account pair-complete //p') confirmation=$(echo "$out" | line_of confirmationCode)
device=$(echo "$out" | line_of deviceId)
hasnt "$pairing" "$confirmation"
run 2 a account pair-complete $pairing; has "$err" "--confirmation-code"
run 101 a account pair-complete $pairing --confirmation-code 0000-0000-0000-0000; has "$err" "code"
run 2 a account revoke friends; has "$err" "devices"
run 101 a account revoke friends --device-id "$(printf '1%.0s' $(seq 64))"

run 0 a namespace create --application-id "$app" --name paired
run 0 a account pair-complete ${pairing/#$ns/paired} --confirmation-code "$confirmation"; has "$out" "$device"
run 2 a account prove-revocation; has "$err" "devices"
run 0 a account prove-revocation --device-id "$device"; [ -z "$(echo "$out" | tr -d '0-9a-f')" ] || die "no hex: $out"
[ "$(echo "$out" | wc -l)" = 1 ] || die "the proof is not alone: $out"
echo "$out" >"$dir/proof"
run 0 b account prove-revocation --device-id "$device"; echo "$out" >"$dir/others" # another account's
run 101 a account revoke paired --device-id "$device" --proof "@$dir/others"
run 0 a account revoke paired --device-id "$device" --proof "@$dir/proof"; has "$out" "revoked for good"
run 0 a group members devices paired; hasnt "$out" "$device"
run 0 a namespace delete paired --yes

say "ownership proofs"
nonce=$(printf 'ab%.0s' $(seq 16))
run 2 a group prove-ownership friends --audience shop --subject order; has "$err" "--nonce"
run 0 a group prove-ownership friends --audience shop --subject order --nonce "$nonce"; has "$out" signature
run 0 ja group prove-ownership friends --audience shop --subject order --nonce "$nonce" -c notes; has "$out" signedPayload
run 101 b group prove-ownership friends --audience shop --subject order --nonce "$nonce"; has "$err" admin

say "a context left and joined again; who is removed reads nothing written afterwards"
run 0 b context leave "$context"
run 0 b context join "$context"; has "$out" memberPublicKey
run 1 a group members remove friends bea; has "$err" "--yes"
run 0 a group members remove friends bea --yes
run 0 a call set -c notes --args '{"key":"secret","value":"not for bea"}'
until_has "no member" b call get -c "$context" --args '{"key":"secret"}'
run 1 b call get -c "$context" --args '{"key":"a"}'; has "$err" "no member"
run 0 a group members list friends; hasnt "$out" "$guest"
run 101 b namespace invite friends

say "joining again, and leaving"
run 0 a namespace invite friends --code --role admin --expiration-timestamp 600
code=$out
run 101 b namespace join "$code"; has "$err" "only when an admin adds it"
run 0 a group members add friends "$guest" admin
run 0 b namespace join "$code"
until_has "not for bea" b call get -c "$context" --args '{"key":"secret"}'
run 0 a group members check-access friends "$guest"; has "$out" "role: Admin"
run 0 b namespace leave friends
until_has "memberCount: 1" a namespace get friends

say "a list longer than a page"
run 0 a namespace create --application-id "$app" --name crowd
crowd=$(echo "$out" | line_of namespaceId)
python3 - "$url" "$crowd" <<'END' || die "members cannot be added"
import json, sys, urllib.request
for part in range(5):
    rows = [{"identity": "%064x" % (1 + 210 * part + i), "role": "Member"} for i in range(210)]
    urllib.request.urlopen(urllib.request.Request(
        "%s/admin-api/groups/%s/members" % (sys.argv[1], sys.argv[2]), json.dumps({"members": rows}).encode(),
        {"content-type": "application/json"}))
END
run 0 a group members list crowd
[ "$(echo "$out" | wc -l)" = 1052 ] || die "of 1051 members $(($(echo "$out" | wc -l) - 1)) are listed"
run 0 ja group members list crowd; has "$out" "$(printf '%064x' 1050)"; has "$out" '{"members":[{'
run 0 a group members check-access crowd "$(printf '%064x' 1050)"; has "$out" "role: Member"
run 0 a namespace delete crowd --yes

say "deleting a context says what it does"
run 0 ja context create -a "$app" --group-id friends --name short
run 0 a context use notes
run 0 a context use short; has "$out" "'default' is"
run 1 a context alias add notes short; has "$err" "--force"
run 0 a context use notes
run 1 a context delete short; has "$err" "for all its members"; has "$err" "context leave"
run 0 a context delete short --yes

say "the founder hands over and leaves"
run 0 a namespace create --application-id "$app" --name passed
run 0 a namespace invite passed --code --role admin
run 0 b namespace join "$out" --name passed
own=$(a account show | line_of accountId)
until_has "$guest" a group members list passed
run 101 a namespace leave passed; has "$err" "owner"
run 101 b group owner transfer passed "$guest" --yes
run 1 a group owner transfer passed "$guest"; has "$err" "--yes"
run 0 a group owner transfer passed "$guest" --yes
run 0 a group get passed; has "$out" "ownerAccount: $guest"
until_has "ownerAccount: $guest" b group get passed
run 0 a namespace leave passed
until_has "memberCount: 1" b namespace get passed
run 0 b group members list passed; hasnt "$out" "$own"
run 0 a namespace delete passed --yes

run 1 a namespace delete friends; has "$err" "--yes"
run 0 a namespace delete friends --yes
run 0 a namespace list; has "$out" none
echo "all passed"

#!/bin/bash
# Several hosts on this machine (network namespaces joined by a bridge): merod on each, as a person runs it on several machines.
# Arguments: merod, meroctl. Nodes find each other with mDNS and with a boot node's address, stay connected through a cut, a change
# of address and kill -9, and show it in meroctl. Waits for events, with a bound. Skipped (77) where namespaces cannot be made.
set -eu
merod=$1 meroctl=$2
dir=$(mktemp -d)
prefix=cal$$
pids=''
cleanup() {
    for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
    for name in 1 2 3; do ip netns del "$prefix-$name" 2>/dev/null || true; done
    ip netns del "$prefix-0" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
export HOME=$dir
unset CALIMERO_HOME XDG_CONFIG_HOME CALIMERO_LOG RUST_LOG CALIMERO_PASSPHRASE

say() { echo "--- $*"; }
die() {
    echo "FAILED: $*" >&2
    for host in 1 2 3; do peers $host >&2; done
    for log in "$dir"/*.log; do echo "== $log" >&2; tail -n 20 "$log" >&2; done
    exit 1
}
on() { local host=$1; shift; ip netns exec "$prefix-$host" "$@"; }

command -v ip >/dev/null && ip netns add "$prefix-0" 2>/dev/null || { echo "skipped: no network namespaces here (iproute2, root)"; exit 77; }
# The bridge lives in a namespace of its own: nothing of this machine's network is touched.
if ! on 0 ip link add switch type bridge 2>/dev/null; then echo "skipped: this kernel has no bridges"; exit 77; fi
on 0 ip link set switch up
for host in 1 2 3; do
    ip netns add "$prefix-$host"
    on 0 ip link add "to$host" type veth peer name eth0 netns "$prefix-$host"
    on 0 ip link set "to$host" master switch up
    on "$host" ip link set lo up
    on "$host" ip addr add "10.77.0.$host/24" dev eth0
    on "$host" ip link set eth0 up
    on "$host" ip route add default via 10.77.0.254 dev eth0
done

make() { # HOST OPTIONS...: a node of that name
    local host=$1
    shift
    "$merod" --node "n$host" init --server-port 2528 --swarm-port 2428 "$@" >"$dir/init.log" 2>&1 || die "init $host"
}
start() {
    # not through `on`: a function in the background is a shell of its own, and the signals are for merod
    ip netns exec "$prefix-$1" "$merod" --node "n$1" run >>"$dir/n$1.log" 2>&1 &
    eval "pid_$1=$!"
    pids="$pids $!"
}
stop() { # HOST SIGNAL
    local pid
    eval "pid=\$pid_$1"
    kill "-$2" "$pid"
    wait "$pid" 2>/dev/null || true
}
peer_of() { sed -n 's/^peer_id = "\(.*\)"$/\1/p' "$dir/.calimero/n$1/config.toml"; }
peers() { on "$1" "$meroctl" --output-format json peers 2>/dev/null || true; }
sees() { peers "$1" | grep -q "\"peerId\":\"$(peer_of "$2")\""; }
until_within() { # SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || die "$what, not in time"
        read -r -t 0.05 <>"$dir/never" || true
    done
}
mkfifo "$dir/never"
misses() { ! sees "$1" "$2"; }
see_each_other() { sees "$1" "$2" && sees "$2" "$1"; }
alone() { peers "$1" | grep -q '"count":0'; }
at_address() { peers "$1" | grep -q "\"address\":\"/ip4/$2/tcp/"; }

say "two nodes that know nothing of each other meet by mDNS"
make 1 --mdns
make 2 --mdns
start 1
start 2
until_within 20 "1 and 2 meet" see_each_other 1 2
on 1 "$meroctl" peers
on 1 "$meroctl" network status | grep -q "localPeerId: $(peer_of 1)" || die "network status"

say "a third, with mDNS off, is told the address of one and hears of no other"
make 3 --boot-nodes "/ip4/10.77.0.1/tcp/2428/p2p/$(peer_of 1)"
start 3
until_within 20 "1 and 3 meet" see_each_other 1 3
grep -q '"/ip4/10.77.0.1' "$dir/.calimero/n3/config.toml" || die "boot node"

say "two on one machine meet by mDNS, too"
"$merod" --node n4 init --server-port 2529 --swarm-port 2429 --mdns >"$dir/init.log" 2>&1 || die "init 4"
ip netns exec "$prefix-1" "$merod" --node n4 run >>"$dir/n4.log" 2>&1 &
pid_4=$!
pids="$pids $pid_4"
until_within 20 "1 and 4 meet" sees 1 4
stop 4 TERM
until_within 5 "4 says goodbye" misses 1 4

say "kill -9, and started again"
stop 1 KILL
until_within 20 "2 notices" misses 2 1
until_within 20 "3 says that its boot node is not there" grep -q "$(peer_of 1) is not reached" "$dir/n3.log"
start 1
until_within 30 "1 and 2 meet again" see_each_other 1 2
until_within 30 "1 and 3 meet again" see_each_other 1 3
grep -q "$(peer_of 1) is reached" "$dir/n3.log" || die "3 does not say that its boot node is there again"

say "a host comes back at another address: those who kept its old one find it"
on 3 ip addr del 10.77.0.3/24 dev eth0
on 3 ip addr add 10.77.0.33/24 dev eth0
until_within 30 "3 is seen at its new address" at_address 1 10.77.0.33
until_within 30 "1 and 3 meet at the new address" see_each_other 1 3

say "the cable is pulled, and plugged in again"
on 0 ip link set to2 down
until_within 120 "2 finds itself alone" alone 2
on 0 ip link set to2 up
until_within 60 "1 and 2 meet when the cable is back" see_each_other 1 2

say "a node that stops says goodbye"
stop 2 TERM
until_within 5 "1 knows at once" misses 1 2
for host in 1 3; do
    on "$host" curl -fs http://127.0.0.1:2528/metrics | grep -q '^p2p_connections_in_total [1-9]\|^p2p_connections_out_total [1-9]' || die "metrics of $host"
done
echo "all passed"

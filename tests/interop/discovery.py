#!/usr/bin/env python3
"""How peers find each other, between ours and rust-libp2p: discovery.py OUR_DISCOVERY_PEER RUST_PEER

Rendezvous at a rust point, Kademlia and gossip both ways, and mDNS both ways between two network namespaces. Exits 0 or 1."""
import hashlib, os, subprocess, sys
import peers
from peers import Peer, check

GLOBAL, TOPIC = "/calimero/devnet/global", "ns/" + "7" * 64


def until(holds, seconds, what):
    peers.until(holds, seconds, what)
    check(True, what)


def connected(peer, other):
    answer = peer.do("connected")
    return other.id in answer.get("peers", answer.get("list", []))


def dial(peer, other):
    check(peer.do("dial", address=other.address)["peer"] == other.id, f"{peer.name} dialled {other.name}")


def rendezvous(ours, rust):
    """Two of ours know only the point, and a rust peer that registers there."""
    point, guest, a, b = rust("the rust point"), rust("a rust peer"), ours("ours 1"), ours("ours 2")
    guest.do("dial", address=point.address)
    guest.do("register", name=GLOBAL, address=point.address)
    point.wait(lambda e: e["event"] == "registered" and e["peer"] == guest.id, 20, "the rust peer's registration")
    for peer in (a, b):
        peer.do("join", name=GLOBAL)
        dial(peer, point)
        told = point.wait(lambda e: e["event"] == "registered" and e["peer"] == peer.id, 20, "our registration")
        check(told["name"] == GLOBAL and told["ttl"] == 7200, f"{peer.name} registered at the rust point, for {told['ttl']} s")
        until(lambda: [p["state"] for p in peer.do("points")["list"] if p["peer"] == point.id] == ["registered"], 10, f"{peer.name} says so")
    until(lambda: connected(a, b) and connected(b, a), 30, "ours found each other through the rust point")
    until(lambda: connected(a, guest) and connected(b, guest), 30, "ours found the rust peer through the rust point")
    a.do("leave", name=GLOBAL)
    point.wait(lambda e: e["event"] == "unregistered" and e["peer"] == a.id, 20, "our leaving")
    check(True, "ours 1 left, the rust point knows")
    return [point, guest, a, b]


def kademlia(ours, rust):
    """Ours, a and b, know only r; s, rust's as r, knows only a."""
    r, s, a, b = rust("rust 1"), rust("rust 2"), ours("ours 1"), ours("ours 2")
    dial(a, r)
    dial(b, r)
    dial(s, a)
    for peer in (a, b):
        until(lambda: peer.do("stats")["kad_peers"] >= 1, 20, f"{peer.name} knows somebody for Kademlia")
    mine, theirs, forged = "01" * 64, "02" * 64, "03" * 64
    count = a.do("provide", key=mine, size=4711)["count"]
    check(count >= 1, f"ours 1 put a record with {count} peers")
    check(r.wait(lambda e: e["event"] == "record", 10, "our record")["stored"], "rust 1 verified and stored it")
    for peer in (r, s):
        found = peer.do("providers", key=mine)["found"]
        check({"peer": a.id, "size": 4711} in found, f"{peer.name} found it")
    found = b.do("providers", key=mine)["list"]
    check([(f["peer"], f["size"]) for f in found] == [(a.id, 4711)], "ours 2 found it")
    check("error" not in s.do("provide", key=theirs, size=99), "rust 2 put a record")
    for peer in (a, b):
        found = peer.do("providers", key=theirs)["list"]
        check([(f["peer"], f["size"]) for f in found] == [(s.id, 99)], f"{peer.name} found it")
        check(found[0]["addresses"], f"{peer.name} was told where rust 2 is")
    check(a.do("stats")["kad_records_taken"] + b.do("stats")["kad_records_taken"] >= 1, "ours verified and stored it")
    found = b.do("find", peer=s.id)["addresses"]
    check(found, f"ours 2 found rust 2 at {found}")
    found = s.do("find", peer=b.id)["found"]
    check(found and found[0]["addresses"], f"rust 2 found ours 2 at {found[0]['addresses']}")
    check(b.do("providers", key=forged).get("count") == 0, "a key that nobody holds has no providers")
    check(all(peer.do("stats")["kad_malformed"] == 0 for peer in (a, b)), "nothing was malformed")
    return [r, s, a, b]


def gossip(ours, rust):
    r, a = rust("rust"), ours("ours")
    dial(a, r)
    for peer in (r, a):
        peer.do("subscribe", topic=TOPIC)
    until(lambda: r.id in a.do("subscribers", topic=TOPIC)["list"] and a.id in r.do("subscribers", topic=TOPIC)["peers"], 20, "both know who hears the topic")
    until(lambda: a.id in r.do("subscribers", topic=TOPIC)["mesh"], 20, "ours is in rust's mesh")
    for size in (1, 1000, 100000, 1000000):
        digest = hashlib.sha256(("x" * size).encode()).hexdigest()
        r.do("publish", topic=TOPIC, text="x", size=size)
        told = a.wait(lambda e: e["event"] == "heard" and e["hash"] == digest, 20, f"{size} bytes of rust's")
        check(told["peer"] == r.id and told["topic"] == TOPIC, f"{size} bytes from rust to ours")
        digest = hashlib.sha256(("y" * size).encode()).hexdigest()
        a.do("publish", topic=TOPIC, text="y", size=size)
        until(lambda: [m["hash"] for m in r.do("heard")["messages"] if m["from"] == a.id].count(digest) == 1, 20, f"{size} bytes from ours to rust")
    return [r, a]


def mdns(our_peer, rust_peer):
    """Two network namespaces with a cable between them, a peer in each: nothing else hears them, and they hear nothing else."""
    spaces = [f"calimero-{end}-{os.getpid()}" for end in "ab"]
    made = False
    try:
        for space in spaces:
            ip("netns", "add", space)
        ip("link", "add", "cable", "netns", spaces[0], "type", "veth", "peer", "name", "cable", "netns", spaces[1])
        for number, space in enumerate(spaces):
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "cable")
            ip("-n", space, "link", "set", "cable", "up")
        made = True
        for first, second in ((our_peer, rust_peer), (rust_peer, our_peer), (our_peer, our_peer)):
            kinds = ["ours" if command == our_peer else "rust" for command in (first, second)]
            a, b = [Peer(kind, ["ip", "netns", "exec", space, command, "mdns=yes", "listen=/ip4/0.0.0.0/tcp/0"])
                    for kind, space, command in zip(kinds, spaces, (first, second))]
            until(lambda: connected(a, b) and connected(b, a), 30, f"mDNS: {kinds[0]}, there first, and {kinds[1]} found each other between namespaces")
            for peer in (a, b):
                check(peer.stop() == 0, f"{peer.name} ended cleanly")
    except (OSError, subprocess.CalledProcessError) as error:
        if made:
            raise
        print(f"skipped: mDNS between network namespaces, which cannot be made here: {error}")
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def run(part, our_peer, rust_peer):
    def starter(command):
        return lambda name, *arguments: Peer(name, [command, *arguments])
    for peer in part(starter(our_peer), starter(rust_peer)):
        code = peer.stop()
        check(code == 0, f"{peer.name} ended cleanly")


def main():
    our_peer, rust_peer = sys.argv[1:3]
    for part in (rendezvous, kademlia, gossip):
        run(part, our_peer, rust_peer)
    mdns(our_peer, rust_peer)
    return 0


if __name__ == "__main__":
    sys.exit(main())

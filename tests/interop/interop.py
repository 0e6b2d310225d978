#!/usr/bin/env python3
"""Our libp2p against another implementation, both ways: interop.py OUR_PEER KIND COMMAND...

Starts our peer and the other one (KIND names it in messages), and has each dial the other: handshake with the expected peer id, identify,
ping, 1,000 streams opened and closed, 64 MiB both ways on one stream with hashes compared; then gossip.py. Exits 0, 1, or 77 when COMMAND cannot
run here."""
import os, sys, time
import gossip
from peers import Peer, check

LARGE = 64 << 20


def both_ways(dialer, listener):
    """All that is asked of a connection, made by `dialer`."""
    pair = f"{dialer.name} -> {listener.name}"
    check(dialer.do("dial", address=listener.address)["peer"] == listener.id, f"{pair}: handshake, the peer id dialled")
    said = listener.wait(lambda e: e["event"] == "identify" and e["peer"] == dialer.id, 20, "identify of the dialer")
    check("/ipfs/ping/1.0.0" in said["protocols"], f"{pair}: the listener identified {said['agent']}")
    said = dialer.wait(lambda e: e["event"] == "identify" and e["peer"] == listener.id, 20, "identify of the listener")
    check("/ipfs/id/1.0.0" in said["protocols"], f"{pair}: the dialer identified {said['agent']}")
    for end, other in ((dialer, listener), (listener, dialer)):
        for _ in range(100):  # our own host pings by itself: the figure comes a moment later
            rtt = end.do("ping", address=other.address)["ms"]
            if rtt > 0:
                break
            time.sleep(0.05)
        check(rtt >= 0 and (rtt > 0 or end.name != "ours"), f"{pair}: ping by {end.name}, {rtt} ms")
        good = end.do("many", address=other.address, count=1000)["good"]
        check(good == 1000, f"{pair}: 1,000 streams opened by {end.name}, {good} answered")
        start = time.monotonic()
        mine = end.do("large", address=other.address, seconds=300)
        theirs = other.wait(lambda e: e["event"] == "large", 60, "end of the large stream")
        took = time.monotonic() - start
        check(mine["bytes"] == theirs.get("bytes") == LARGE, f"{pair}: 64 MiB both ways, opened by {end.name}, {2 * 64 / took:.0f} MiB/s")
        check(mine["sent"] == theirs["got"] and mine["got"] == theirs["sent"], f"{pair}: hashes agree")
    for end, other in ((dialer, listener), (listener, dialer)):
        check(not any(e["event"] == "disconnect" for e in end.seen), f"{pair}: {end.name} kept the connection")


def main():
    ours, kind, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    if not os.path.exists(command[0]):
        print(f"skipped: {command[0]} is not there")
        return 77
    for first in ("ours", kind):  # fresh peers for each direction
        our_peer, other = Peer("ours", [ours]), Peer(kind, command)
        try:
            pair = (our_peer, other) if first == "ours" else (other, our_peer)
            both_ways(*pair)
        finally:
            other.stop()
            code = our_peer.stop()
        check(code == 0, "our peer ended cleanly")
    gossip.run([ours], kind, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())

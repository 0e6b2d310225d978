#!/usr/bin/env python3
"""A mesh of ours and others for a long time: soak.py SECONDS OUR_PEER [js NODE SCRIPT] [go PEER]

Somebody publishes all the time. Now and then a peer is killed and started again, a link is cut and dialled again, a peer leaves the topic and comes
back. Every message must reach every peer that was there from publishing until ten seconds later, once; ours must not grow in memory, descriptors or
streams. Prints a line a minute; ends with 1 at the first loss, copy or growth."""
import os, random, statistics, sys, threading, time
from peers import Peer, check, content, until

TOPIC, PROMISE, KEPT = "soak", 10, 90  # seconds: a message may take; a second copy is looked for
RATE, CHURN = 10, (5, 15)  # messages a second; seconds between two disturbances
NEVER_KILLED = "o1"
BAD = ("invalid", "rpcs_malformed", "rpcs_refused", "messages_refused", "peers_closed", "too_long")


def commands_of(arguments):
    commands = {"o": arguments[:1]}
    rest = arguments[1:]
    while rest:
        kind, length = rest[0], {"js": 3, "go": 2}[rest[0]]
        commands[kind[0]], rest = rest[1:length], rest[length:]
    return commands


def links_of(names):
    """A ring in which neighbours differ in kind, and a chord from each to the one after the next: any one can go without parting the others."""
    count = len(names)
    return sorted({tuple(sorted((i, (i + step) % count))) for i in range(count) for step in (1, 2)})


class Soak:
    def __init__(self, commands):
        self.commands, self.random = commands, random.Random()
        others = [kind for kind in commands if kind != "o"]
        order = ["o1", *(kind + "1" for kind in others), "o2", *(kind + "2" for kind in others), "o3"]
        self.links = [(order[a], order[b]) for a, b in links_of(order)]
        self.order, self.peers, self.there_since, self.silent = order, {}, {}, set()
        self.lock = threading.Lock()  # of there_since and silent
        self.published, self.deliveries, self.churns = 0, 0, {"kill": 0, "link": 0, "topic": 0}
        self.pending, self.checked = [], []  # (time, message)
        self.failure, self.done = None, threading.Event()
        self.figures = {}  # name of ours -> [(rss, fds, streams)]
        for name in order:
            self.start(name)
        for a, b in self.links:
            self.peers[a].do("dial", address=self.peers[b].address)
        for name in order:
            self.peers[name].do("subscribe", topic=TOPIC)
        for name in order:
            self.arrived(name)

    def start(self, name):
        self.peers[name] = Peer(name, [*self.commands[name[0]], f"seed={self.order.index(name) + 1}"])

    def neighbours(self, name):
        return [a if b == name else b for a, b in self.links if name in (a, b)]

    def arrived(self, name):
        """All its neighbours hear the topic; from now on it must hear everything."""
        want = {self.peers[other].id for other in self.neighbours(name)}
        until(lambda: want <= set(self.peers[name].do("subscribers", topic=TOPIC)["peers"]), 60, f"{name} sees its neighbours")
        until(lambda: self.peers[name].do("subscribers", topic=TOPIC)["mesh"], 60, f"{name} is in the mesh")
        with self.lock:
            self.there_since[name] = time.monotonic()
            self.silent.discard(name)

    def leaves(self, name):
        with self.lock:
            self.silent.add(name)
        self.done.wait(2)  # what it published last has left by then
        with self.lock:
            del self.there_since[name]

    # --- disturbances, in a thread of their own ---

    def kill(self):
        name = self.random.choice([name for name in self.order if name != NEVER_KILLED])
        self.leaves(name)
        with self.peers[name].asking:
            self.peers[name].kill()
        self.done.wait(self.random.uniform(0, 5))
        self.start(name)
        self.peers[name].do("subscribe", topic=TOPIC)
        for other in self.neighbours(name):
            self.peers[name].do("dial", address=self.peers[other].address)
        self.arrived(name)

    def link(self):
        a, b = self.random.sample(self.random.choice(self.links), 2)
        self.peers[a].do("disconnect", address=self.peers[b].address)
        for end, other in ((a, b), (b, a)):
            until(lambda: self.peers[other].id not in self.peers[end].do("subscribers", topic=TOPIC)["peers"], 60, f"{end} lost {other}")
        a, b = self.random.sample((a, b), 2)
        self.peers[a].do("dial", address=self.peers[b].address)
        for end, other in ((a, b), (b, a)):
            until(lambda: self.peers[other].id in self.peers[end].do("subscribers", topic=TOPIC)["peers"], 60, f"{end} sees {other} again")

    def topic(self):
        name = self.random.choice(self.order)
        self.leaves(name)
        self.peers[name].do("unsubscribe", topic=TOPIC)
        self.done.wait(self.random.uniform(0, 5))
        self.peers[name].do("subscribe", topic=TOPIC)
        self.arrived(name)

    def disturb(self):
        try:
            while not self.done.wait(self.random.uniform(*CHURN)):
                what = self.random.choice(list(self.churns))
                getattr(self, what)()
                self.churns[what] += 1
        except BaseException as error:  # SystemExit too: it says what was not seen
            self.failure = self.failure or str(error)

    # --- the main thread ---

    def publish(self):
        with self.lock:
            name = self.random.choice([name for name in self.there_since if name not in self.silent])
        size = int(2 ** self.random.uniform(0, 11 if self.random.random() < 0.9 else 19.8))
        text = f"{self.published} of {name}; "[:max(size, 16)]
        size = max(size, len(text))  # so that every message is another
        now = time.monotonic()
        self.peers[name].do("publish", topic=TOPIC, text=text, size=size)
        self.pending.append((now, (TOPIC, self.peers[name].id, content(text, size)), name, size))
        self.published += 1

    def look(self):
        """At the messages whose time is over, and once more later for copies."""
        now = time.monotonic()
        while self.pending and self.pending[0][0] + PROMISE < now:
            at, message, author, size = self.pending.pop(0)
            with self.lock:
                must = [name for name, since in self.there_since.items() if since < at and name != author]
            for name in must:
                if not self.peers[name].messages[message]:
                    raise SystemExit(f"LOST: {name} did not get {size} bytes of {author} in {PROMISE} s, published {now - at:.1f} s ago")
            self.deliveries += len(must)
            self.checked.append((at, message))
        while self.checked and self.checked[0][0] + KEPT < now:
            _, message = self.checked.pop(0)
            for name, peer in list(self.peers.items()):
                if peer.messages.pop(message, 1) != 1:
                    raise SystemExit(f"TWICE: {name} got a message twice")
        if self.failure:
            raise SystemExit(self.failure)

    def measure(self):
        for name, peer in list(self.peers.items()):
            if name[0] != "o" or name not in self.there_since:
                continue
            try:
                with open(f"/proc/{peer.process.pid}/statm") as statm:
                    rss = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
                fds = len(os.listdir(f"/proc/{peer.process.pid}/fd"))
            except FileNotFoundError:  # just killed
                continue
            stats = peer.do("stats")
            bad = {key: stats[key] for key in BAD if stats[key]}
            if bad:
                raise SystemExit(f"FAILED: {name} counted {bad}")
            if stats["streams"] > 4 * stats["connections"] + 4 or fds > stats["connections"] + 24:
                raise SystemExit(f"GREW: {name} has {fds} descriptors and {stats['streams']} streams for {stats['connections']} connections")
            self.figures.setdefault(name, []).append((rss, fds, stats["streams"], stats))

    def line(self, minute):
        """Of the one that is never killed; its lowest memory of the minute, because large messages come and go."""
        last = self.figures[NEVER_KILLED]
        rss, stats = min(figure[0] for figure in last), last[-1][3]
        print(f"minute {minute}: {self.published} published, {self.deliveries} delivered, 0 lost, 0 twice; killed {self.churns['kill']}, links cut " +
              f"{self.churns['link']}, topic left {self.churns['topic']}; {NEVER_KILLED}: {rss:.1f} MiB (at most {max(f[0] for f in last):.1f}), {last[-1][1]} " +
              f"descriptors, {stats['connections']} connections, {stats['streams']} streams, {stats['duplicates']} duplicates dropped, " +
              f"{stats['idontwant_spared']} copies spared, {stats['iwant_served']} served on IWANT, {stats['queue_dropped']} dropped", flush=True)
        self.figures.clear()
        return rss

    def run(self, seconds):
        threading.Thread(target=self.disturb, daemon=True).start()
        start = time.monotonic()
        steps, floors = 0, []
        while time.monotonic() < start + seconds:
            self.publish()
            self.look()
            steps += 1
            if steps % RATE == 0:
                self.measure()
            if time.monotonic() > start + 60 * (len(floors) + 1):
                floors.append(self.line(len(floors) + 1))
            time.sleep(max(0, start + steps / RATE - time.monotonic()))
        self.done.set()
        time.sleep(PROMISE + 0.1)
        self.look()
        check(True, f"{self.published} published, {self.deliveries} delivered to those that were there, none lost, none twice")
        if len(floors) >= 6:
            third = len(floors) // 3
            early, late = statistics.median(floors[third:2 * third]), statistics.median(floors[-third:])
            check(late < early * 1.1 + 4, f"memory of {NEVER_KILLED}: {early:.1f} MiB in the middle third, {late:.1f} MiB in the last")

    def end(self):
        for name, peer in self.peers.items():
            peer.kill()


def main():
    soak = Soak(commands_of(sys.argv[2:]))
    try:
        soak.run(float(sys.argv[1]))
    finally:
        soak.done.set()
        soak.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())

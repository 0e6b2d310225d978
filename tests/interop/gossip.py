"""Gossip between ours and another implementation: meshes of two and two in which every message has to pass from one to the other.

What is published is delivered to everybody who hears the topic, exactly once, with its author. Each check waits for deliveries; the counts are
compared once more when the mesh ends, so that a copy which comes late is found too."""
import concurrent.futures, itertools, string, time
from peers import Peer, check, content, until

LIMIT = 1 << 20  # of an RPC
CLEAN = ("invalid", "rpcs_malformed", "rpcs_refused", "messages_refused", "subscriptions_refused", "control_refused", "ihave_refused",
         "iwant_refused", "idontwant_refused", "queue_dropped", "queue_expired", "gossip_dropped", "peers_closed", "peers_paused")


def most(topic):
    """The longest data whose RPC is LIMIT bytes: its fields are publish, from, data, seqno, topic, signature."""
    return LIMIT - (4 + 40 + 4 + 10 + 2 + len(topic) + 66)


class Mesh:
    """Peers by name: o1, o2 ours, t1, t2 theirs. `links` like "o1-t1 t1-o2": the first of each dials, or both at once."""

    def __init__(self, title, commands, links, *arguments, topic="mesh", judged=(), both=False):
        self.title, self.commands, self.arguments, self.judged = title, commands, arguments, judged
        self.links = [tuple(link.split("-")) for link in links.split()]
        self.peers, self.numbers = {}, itertools.count()
        self.may, self.must = {}, {}  # message -> names that may, must have had it
        self.hears = {}  # topic -> names
        self.clean = True
        for name in sorted({name for link in self.links for name in link}):
            self.start(name)
        for a, b in self.links:
            with concurrent.futures.ThreadPoolExecutor() as dials:
                list(dials.map(lambda ends: self.dial(*ends), ((a, b), (b, a)) if both else ((a, b),)))
        self.subscribe(topic, *self.peers)

    def start(self, name):
        seed = f"seed={sorted({n for link in self.links for n in link}).index(name) + 1}"
        self.peers[name] = Peer(name, [*self.commands[name[0]], seed, *self.arguments])

    def dial(self, dialer, listener):
        self.peers[dialer].do("dial", address=self.peers[listener].address)

    def neighbours(self, name):
        return [a if b == name else b for a, b in self.links if name in (a, b)]

    def name_of(self, id):
        return next(name for name, peer in self.peers.items() if peer.id == id)

    def meshed(self, topic):
        for name in self.hears[topic]:
            want = {self.peers[other].id for other in self.neighbours(name) if other in self.hears[topic]}
            until(lambda: want <= set(self.peers[name].do("subscribers", topic=topic)["mesh"]), 40, f"{self.title}: mesh of {name} has its neighbours")

    def subscribe(self, topic, *names):
        for name in names:
            self.hears.setdefault(topic, set()).add(name)
            self.peers[name].do("subscribe", topic=topic, judged=name in self.judged)
        self.known(topic)
        self.meshed(topic)

    def known(self, topic):
        """Waits until everybody knows who of their neighbours hears the topic (those that do not hear it themselves need not)."""
        for name, peer in self.peers.items():
            want = {self.peers[other].id for other in self.neighbours(name) if other in self.hears[topic]}
            until(lambda: set(peer.do("subscribers", topic=topic)["peers"]) == want, 20, f"{self.title}: {name} knows who hears {topic}")

    def unsubscribe(self, topic, name):
        self.hears[topic].discard(name)
        self.peers[name].do("unsubscribe", topic=topic)
        self.known(topic)

    def publish(self, name, topic, size):
        """Publishes to all who hear the topic now."""
        number = next(self.numbers)
        text = string.ascii_letters[number % 52] + f"{number} of {name}; "
        self.peers[name].do("publish", topic=topic, text=text, size=size)
        message = (topic, self.peers[name].id, content(text, size))
        self.must[message] = self.hears[topic] - {name}
        self.may.setdefault(message, set())
        return message

    def delivered(self, messages, seconds=15):
        for message in messages:
            for name in self.must[message]:
                if not self.peers[name].has(message, seconds):
                    raise SystemExit(f"FAILED: {self.title}: {name} did not get a message of {self.name_of(message[1])} in {seconds} s; " +
                                     f"stats: { {n: p.do('stats') for n, p in self.peers.items()} }")

    def everybody(self, what, topic, sizes):
        for size in sizes:
            for name in sorted(self.peers):
                # others may add their key to a message
                self.delivered([self.publish(name, topic, size if name[0] == "o" else min(size, most(topic) - 64))])
        check(True, f"{self.title}: {what}: {len(sizes) * len(self.peers)} messages of {min(sizes)} to {max(sizes)} bytes, each with everybody else")

    def restarted(self, name):
        """Killed and started again with its identity; what was said before may be told to it again."""
        for message in self.must:
            self.must[message].discard(name)
            self.may[message].add(name)
        self.start(name)
        for a, b in self.links:
            if name in (a, b):
                self.dial(name, b if a == name else a)

    def end(self):
        """No message came twice, to nobody whom it was not for, and nothing was refused on the way."""
        total = 0
        for name, peer in self.peers.items():
            with peer.delivered:
                counts = dict(peer.messages)
            for message, count in counts.items():
                allowed = name in self.must.get(message, ()) or name in self.may.get(message, ())
                if count != 1 or not allowed:
                    raise SystemExit(f"FAILED: {self.title}: {name} had a message of {self.name_of(message[1])} {count} times; it was for {self.must.get(message)}")
                total += count
        figures = {}
        for name, peer in self.peers.items():
            stats = peer.do("stats")
            bad = {k: stats[k] for k in CLEAN if stats.get(k)}
            if name[0] == "o" and self.clean and bad:
                raise SystemExit(f"FAILED: {self.title}: {name} counted {bad}")
            figures[name] = {k: stats[k] for k in ("duplicates", "idontwant_spared", "idontwants", "iwant_served") if stats.get(k)}
        print(f"     {self.title}: figures {figures}", flush=True)
        for name, peer in self.peers.items():
            code = peer.stop()
            if name[0] == "o" and code != 0:
                raise SystemExit(f"FAILED: {name} ended with {code}")
        check(True, f"{self.title}: {total} deliveries, none twice, none to others, authors right")

    def kill(self):
        for peer in self.peers.values():
            if peer.process.poll() is None:
                peer.kill()


def agreed(mesh):
    """The protocols of the streams between ours and theirs, as the others' libraries see them."""
    ours = {peer.id for name, peer in mesh.peers.items() if name[0] == "o"}
    return {(direction, protocol) for name, peer in mesh.peers.items() if name[0] == "t" for id, streams in peer.do("stats")["versions"].items()
            if id in ours for direction, protocol in streams.items()}


def topics_left_and_joined(mesh):
    """Fan-out, leaving a topic and coming back to it, in a ring: what one does not hear the others do."""
    for name in ("o1", "t1"):
        topic = f"of all but {name}"
        mesh.subscribe(topic, *(set(mesh.peers) - {name}))
        mesh.delivered([mesh.publish(name, topic, size) for size in (1, 2000, 200000)])
        check(True, f"{mesh.title}: {name} publishes to a topic that it does not hear")
        mesh.unsubscribe("mesh", name)
        missed = [mesh.publish(other, "mesh", 3000) for other in sorted(mesh.peers) if other != name]
        mesh.delivered(missed)
        had = [message for message in missed if mesh.peers[name].messages[message]]
        check(not had, f"{mesh.title}: {name} left the topic: the others heard {len(missed)} messages, it none")
        for message in missed:
            mesh.may[message].add(name)  # told to it when it is back
        mesh.subscribe("mesh", name)
        mesh.everybody(f"{name} heard the topic again", "mesh", [500, 50000])


def peers_left_and_joined(mesh):
    for name in ("o1", "t1"):
        old = mesh.peers.pop(name)
        old.kill()
        left, mesh.hears["mesh"] = mesh.hears["mesh"], mesh.hears["mesh"] - {name}
        mesh.delivered([mesh.publish(other, "mesh", 4000) for other in sorted(mesh.peers)])
        check(True, f"{mesh.title}: {name} was killed, the others heard each other")
        mesh.restarted(name)
        for topic, names in mesh.hears.items():
            names.discard(name)
        mesh.hears["mesh"] = left - {name}
        mesh.subscribe("mesh", name)
        mesh.everybody(f"{name} came back", "mesh", [100, 20000])
    for a, b in (("o1", "t1"), ("t1", "o2")):
        mesh.peers[a].do("disconnect", address=mesh.peers[b].address)
        for end, other in ((a, b), (b, a)):
            until(lambda: mesh.peers[other].id not in mesh.peers[end].do("subscribers", topic="mesh")["peers"], 20, f"{end} lost {other}")
        mesh.dial(a, b)
        mesh.meshed("mesh")
        mesh.everybody(f"{a} left {b} and dialled it again", "mesh", [100, 20000])


def over_the_limit(mesh):
    ours = mesh.peers["o1"]
    longest = most("mesh")
    mesh.delivered([mesh.publish("o1", "mesh", longest)])
    check(True, f"{mesh.title}: {longest} bytes of data, the longest that fit, from ours to everybody")
    answer = ours.ask("publish", topic="mesh", text="x", size=longest + 1)
    check("limit of 1048576 bytes" in answer.get("error", ""), f"{mesh.title}: one byte more is refused: {answer.get('error')}")
    theirs = mesh.peers["t1"]  # go-libp2p drops such a message itself, js-libp2p sends it: ours end its streams
    theirs.do("publish", topic="mesh", text="x", size=LIMIT + 1)
    until(lambda: theirs.do("stats").get("oversized") or all(mesh.peers[name].do("stats")["too_long"] for name in ("o1", "o2")), 20, "refused")
    until(lambda: len([s for s in theirs.do("stats")["versions"].values() if len(s) == 2]) == 2, 20, f"{mesh.title}: t1 speaks with both of ours again")
    mesh.meshed("mesh")
    mesh.everybody("t1 had published more than the limit", "mesh", [10, 10000])


def versions(kind, commands):
    for version in ("1.2.0", "1.1.0", "1.0.0"):
        mesh = Mesh(f"{kind} speaks {version}", commands, "o1-t1 t1-o2 o1-o2", f"version={version}")
        try:
            mesh.everybody("triangle", "mesh", [10, 30000, 30001, 30002, 30003])
            want, spoken = {(direction, f"/meshsub/{version}") for direction in ("inbound", "outbound")}, agreed(mesh)
            check(spoken == want, f"{mesh.title}: agreed on {sorted(spoken)}")
            told = mesh.peers["t1"].do("stats")["idontwants"]
            check((told > 0) == (version == "1.2.0"), f"{mesh.title}: {told} IDONTWANT from ours")
            mesh.end()
        finally:
            mesh.kill()


def dialled_from_both_ends(kind, commands):
    """Two connections of a pair at once: one is used, and the other closed five seconds after nothing needs it. Gossip does not notice."""
    mesh = Mesh(f"{kind} dialled from both ends", commands, "o1-t1 t1-o2 o2-t2 t2-o1", both=True)
    try:
        most_at_once = max(mesh.peers[name].do("stats")["connections"] for name in ("o1", "o2"))
        end = time.monotonic() + 7
        while time.monotonic() < end:
            mesh.delivered([mesh.publish(name, "mesh", 100) for name in sorted(mesh.peers)])
            time.sleep(0.02)  # fewer than the signatures that ours check between heartbeats
        left = [mesh.peers[name].do("stats")["connections"] for name in ("o1", "o2")]
        check(True, f"{mesh.title}: {len(mesh.must)} messages while of {most_at_once} connections of one of ours {left} stayed")
        mesh.end()
    finally:
        mesh.kill()


def idontwant(kind, commands):
    """Ours passes large messages on only when it is told to: by then the other has them, and said so."""
    count, size = 20, 100000
    mesh = Mesh(f"{kind} IDONTWANT", commands, "o1-t1 t1-t2 t2-o1", judged=("o1",))
    try:
        mesh.subscribe("last", "o1")
        mesh.delivered([mesh.publish("t1", "mesh", size) for _ in range(count)])
        mesh.delivered([mesh.publish("t2", "last", 10)])  # behind its IDONTWANTs: on the same stream, and on no other way
        before = mesh.peers["o1"].do("stats")
        mesh.peers["o1"].do("judge")
        after, theirs = mesh.peers["o1"].do("stats"), mesh.peers["t2"].do("stats")
        spared = after["idontwant_spared"] - before["idontwant_spared"]
        # Those that the other was the first to send to ours are not passed back to it: nothing to spare.
        check(0 < spared <= count and theirs["duplicates"] == 0, f"{mesh.title}: ours spared {spared} copies of {count} messages of {size} bytes, it got none twice")
        check(theirs["idontwants"] > 0, f"{mesh.title}: ours told {theirs['idontwants']}; {count - after['duplicates']} of {count} copies did not come to ours")
        mesh.end()
    finally:
        mesh.kill()


def run(ours, kind, command):
    commands, start = {"o": ours, "t": command}, time.monotonic()
    sizes = [1, 100, 1000, 1001, 5000, 65536, 300000, most("mesh") - 64]
    meshes = (("ring ours-{0}-ours-{0}", "o1-t1 t1-o2 o2-t2 t2-o1", ()), ("line ours-{0}-ours-{0}", "o1-t1 t1-o2 o2-t2", ()),
              ("line ours-{0}-{0}-ours", "o1-t1 t1-t2 t2-o2", ()), ("line {0}-ours-ours-{0}", "t1-o1 o1-o2 o2-t2", ()),
              ("plain ids, mesh publish, ring ours-{0}-ours-{0}", "o1-t1 t1-o2 o2-t2 t2-o1", ("ids=plain", "publish=mesh")))
    for index, (title, links, arguments) in enumerate(meshes):
        mesh = Mesh(title.format(kind), commands, links, *arguments)
        try:
            mesh.everybody("everybody publishes", "mesh", sizes)
            if index in (0, len(meshes) - 1):
                topics_left_and_joined(mesh)
            if index == 0:
                spoken = agreed(mesh)
                check(spoken == {("inbound", "/meshsub/1.2.0"), ("outbound", "/meshsub/1.2.0")}, f"{mesh.title}: agreed on {sorted(spoken)}")
                over_the_limit(mesh)
                peers_left_and_joined(mesh)
            mesh.end()
        finally:
            mesh.kill()
    dialled_from_both_ends(kind, commands)
    idontwant(kind, commands)
    versions(kind, commands)
    print(f"     gossip with {kind} took {time.monotonic() - start:.0f} s", flush=True)

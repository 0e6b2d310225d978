#!/usr/bin/env python3
"""Three nodes as processes, one context: kills (-9) and restarts at random while all three write.

share_kills.py BUILD_FOLDER [--seconds N] [--seed S] [--netns]

At the end every acknowledged write is on every node and the roots are equal, within HEAL seconds. With --netns each
node has a network namespace of its own on a bridge, and links are cut as well (needs root and `ip`; without them it
says so and ends with 77: skipped). A failing run keeps its folder and prints its seed.
"""
import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HEAL = 30
SKIPPED = 77  # tests/fault/CMakeLists.txt
NODES = ["alice", "bob", "carol"]


def fail(text):
    print(f"FAILED: {text}", file=sys.stderr)
    sys.exit(1)


class Machine:
    """Where a node runs: this one, or a network namespace with an address on the bridge."""

    def __init__(self, index, netns):
        self.name = f"cal{os.getpid() % 10000}n{index}" if netns else None
        self.host = f"10.97.{os.getpid() % 200}.{index + 1}" if netns else "127.0.0.1"
        self.link = f"calv{os.getpid() % 10000}{index}"

    def prefix(self):
        return ["ip", "netns", "exec", self.name] if self.name else []

    def up(self, bridge):
        if not self.name:
            return
        run = lambda *a: subprocess.run(a, check=True, capture_output=True)
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "set", self.link, "master", bridge, "up")
        run("ip", "-n", self.name, "addr", "add", self.host + "/24", "dev", "eth0")
        run("ip", "-n", self.name, "link", "set", "eth0", "up")
        run("ip", "-n", self.name, "link", "set", "lo", "up")

    def cut(self, cut):
        subprocess.run(["ip", "link", "set", self.link, "down" if cut else "up"], check=True)

    def down(self):
        if self.name:
            subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
            subprocess.run(["ip", "link", "del", self.link], capture_output=True)


class Node:
    def __init__(self, name, build, home, machine, ports):
        self.name, self.build, self.home, self.machine = name, build, home, machine
        self.port, self.swarm = ports
        self.process = None
        self.lock = threading.Lock()  # held while it is down

    def program(self, program, *args):
        return self.machine.prefix() + [f"{self.build}/cmd/{program}", "--home", self.home, "--node", self.name, *args]

    def ctl(self, *args, check=True):
        done = subprocess.run(self.program("meroctl", *args), capture_output=True, text=True)
        if check and done.returncode:
            fail(f"{self.name}: meroctl {' '.join(args)}: {done.stderr}")
        return done

    def json(self, *args):
        return json.loads(self.ctl(*args, "--output-format", "json").stdout)

    def init(self):
        done = subprocess.run(
            self.program("merod", "init", "--server-port", str(self.port), "--swarm-port", str(self.swarm),
                         "--server-host", "127.0.0.1", "--swarm-host", self.machine.host),
            capture_output=True, text=True)
        if done.returncode:
            fail(done.stderr)

    def start(self):
        log = open(f"{self.home}/{self.name}.log", "ab")
        self.process = subprocess.Popen(self.program("merod", "run"), stdout=log, stderr=log)
        deadline = time.time() + 30
        while self.ctl("context", "list", check=False).returncode:
            if time.time() > deadline or self.process.poll() is not None:
                fail(f"{self.name} does not start, see {self.home}/{self.name}.log")
            time.sleep(0.1)

    def kill(self, signal):
        # `ip netns exec` becomes the program it runs, so this is the node's own process.
        self.process.send_signal(signal)
        if self.process.wait() != 0 and signal == 15:
            fail(f"{self.name} was stopped and ended with {self.process.returncode}")

    def sane(self):
        """A sanitizer's report would go with a killed process."""
        with open(f"{self.home}/{self.name}.log", errors="replace") as log:
            if "Sanitizer" in log.read():
                fail(f"a sanitizer reports something in {self.home}/{self.name}.log")

    def set(self, context, key, value):
        """True: acknowledged. None: nobody knows."""
        if self.machine.name:
            args = json.dumps({"key": key, "value": value})
            done = self.ctl("call", "set", "--context", context, "--args", args, check=False)
            return True if done.returncode == 0 else None
        body = {"jsonrpc": "2.0", "id": 1, "method": "execute",
                "params": {"contextId": context, "method": "set", "argsJson": {"key": key, "value": value}}}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/jsonrpc", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return True if "result" in json.load(answer) else None
        except OSError:
            return None

    def entries(self, context):
        done = self.ctl("call", "entries", "--context", context, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def root(self, context):
        return self.json("context", "get", context)["data"]["contextStateHash"]


def can_netns():
    """Root, `ip`, and a kernel that lets it."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name, link = f"calt{os.getpid() % 10000}", f"calt{os.getpid() % 10000}b"
    tried = [["ip", "netns", "add", name], ["ip", "link", "add", link, "type", "bridge"]]
    able = all(subprocess.run(c, capture_output=True).returncode == 0 for c in tried)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    subprocess.run(["ip", "link", "del", link], capture_output=True)
    return able


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    return [s.getsockname()[1] for s in sockets]


def writer(node, context, acknowledged, stop):
    number = 0
    while not stop.is_set():
        key = f"{node.name}-{number}"
        number += 1
        if node.set(context, key, str(number)):
            acknowledged.append(key)
        time.sleep(0.02)


def trouble(node, rng, counts, netns):
    if netns and rng.random() < 0.5:
        node.machine.cut(True)
        time.sleep(rng.uniform(0.5, 4))
        node.machine.cut(False)
        counts["cuts"] += 1
        return
    hard = rng.random() < 0.8
    node.kill(9 if hard else 15)
    counts["kills" if hard else "stops"] += 1
    time.sleep(rng.uniform(0, 2))
    node.start()


def found(nodes, build):
    first = nodes[0]
    application = first.json("app", "install", "--path", f"{build}/apps/kv-store.wasm")["data"]["applicationId"]
    namespace = first.json("namespace", "create", "--application-id", application, "--name", "kills")["data"]["namespaceId"]
    context = first.json("context", "create", "--application-id", application, "--group-id", namespace)["data"]["contextId"]
    code = first.ctl("namespace", "invite", namespace, "--code").stdout.strip().split()[-1]
    for node in nodes[1:]:
        node.ctl("namespace", "join", code)
    deadline = time.time() + 60
    while any(first.root(context) != (n.root(context) if context in n.ctl("context", "list").stdout else "") for n in nodes[1:]):
        if time.time() > deadline:
            fail("the nodes do not share the context")
        time.sleep(0.2)
    return context


def check(nodes, context, acknowledged):
    deadline = time.time() + HEAL
    while True:
        roots = [node.root(context) for node in nodes]
        missing = None
        if len(set(roots)) == 1:
            missing = {node.name: set(acknowledged) - set(node.entries(context)) for node in nodes}
            if not any(missing.values()):
                return
        if time.time() > deadline:
            for node in nodes:
                print(node.name, node.ctl("context", "sync-status", context, check=False).stdout)
            fail(f"after {HEAL} s: roots {roots}, missing {missing}")
        time.sleep(0.5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("CAL_KILL_SECONDS", 15)))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--netns", action="store_true")
    options = parser.parse_args()
    if options.netns and not can_netns():
        print("no network namespaces here: nothing was tested")
        sys.exit(SKIPPED)
    build = os.path.realpath(options.build)
    home = tempfile.mkdtemp(prefix="calimero-kills-")
    rng = random.Random(options.seed)
    bridge = f"calb{os.getpid() % 10000}"
    machines = [Machine(i, options.netns) for i in range(len(NODES))]
    ports = free_ports(2 * len(NODES))
    nodes = [Node(n, build, home, machines[i], ports[2 * i:2 * i + 2]) for i, n in enumerate(NODES)]
    counts = {"kills": 0, "stops": 0, "cuts": 0}
    ok = False
    try:
        if options.netns:
            subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
            subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
        for machine in machines:
            machine.up(bridge)
        for node in nodes:
            node.init()
            node.start()
        context = found(nodes, build)
        acknowledged, stop = [], threading.Event()
        writers = [threading.Thread(target=writer, args=(n, context, acknowledged, stop)) for n in nodes]
        for thread in writers:
            thread.start()
        end = time.time() + options.seconds
        while time.time() < end:
            time.sleep(rng.uniform(0.2, 2))
            trouble(rng.choice(nodes), rng, counts, options.netns)
        stop.set()
        for thread in writers:
            thread.join()
        check(nodes, context, acknowledged)
        for node in nodes:
            node.kill(15)
            node.sane()
        print(f"seed {options.seed}: {len(acknowledged)} writes acknowledged, {counts['kills']} kills, {counts['stops']} stops, "
              f"{counts['cuts']} cut links: nothing lost, roots equal")
        ok = True
    finally:
        for node in nodes:
            if node.process and node.process.poll() is None:
                node.kill(9)
        for machine in machines:
            machine.down()
        if options.netns:
            subprocess.run(["ip", "link", "del", bridge], capture_output=True)
        if ok:
            shutil.rmtree(home)
        else:
            print(f"seed {options.seed}; what the nodes said is in {home}", file=sys.stderr)


main()

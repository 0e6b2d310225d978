"""The processes under test, ours and others': each takes commands and tells events as lines of JSON (peer.c, js_peer.mjs, go/main.go)."""
import collections, hashlib, json, queue, subprocess, threading, time


class Peer:
    def __init__(self, name, command):
        self.name, self.next_id = name, 1
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lines, self.seen, self.asking = queue.Queue(), [], threading.RLock()
        self.messages = collections.Counter()  # (topic, author, hash) -> times it was delivered
        self.delivered = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        ready = self.wait(lambda e: e["event"] == "ready", 60)
        self.id, self.address = ready["peer"], ready["addresses"][0]

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "message":
                with self.delivered:
                    self.messages[event["topic"], event["from"], event["hash"]] += 1
                    self.delivered.notify_all()
            else:
                self.lines.put(event)
        self.lines.put(None)

    def wait(self, holds, seconds, what="an event"):
        for event in self.seen:
            if holds(event):
                self.seen.remove(event)
                return event
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            try:
                event = self.lines.get(timeout=max(left, 0.01))
            except queue.Empty:
                raise SystemExit(f"{self.name}: no {what} in {seconds} s; seen: {self.seen[-5:]}")
            if event is None:
                raise SystemExit(f"{self.name} ended while {what} was awaited")
            if holds(event):
                return event
            self.seen.append(event)

    def has(self, message, seconds):
        """Whether a message is delivered in time."""
        with self.delivered:
            return self.delivered.wait_for(lambda: self.messages[message] > 0, seconds)

    def ask(self, what, seconds=120, **arguments):
        with self.asking:
            number, self.next_id = self.next_id, self.next_id + 1
            self.process.stdin.write(json.dumps({"id": number, "do": what, **arguments}) + "\n")
            return self.wait(lambda e: e["event"] == "done" and e.get("id") == number, seconds, f"answer to {what}")

    def do(self, what, seconds=120, **arguments):
        done = self.ask(what, seconds, **arguments)
        if "error" in done:
            raise SystemExit(f"{self.name}: {what}: {done['error']}")
        return done

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def stop(self):
        try:
            self.do("stop", 10)
            self.process.stdin.close()
            return self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()


def check(condition, message):
    if not condition:
        raise SystemExit("FAILED: " + message)
    print("ok  ", message, flush=True)


def content(text, size):
    """The hash of what the command `publish` sends."""
    return hashlib.sha256((text.encode() * (size // len(text) + 1))[:size]).hexdigest()


def until(holds, seconds, what):
    """Asks again until it holds: for what no event tells."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"FAILED: not in {seconds} s: {what}")
        time.sleep(0.05)

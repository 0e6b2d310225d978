#!/usr/bin/env python3
"""Plants small wrong changes, one at a time, and says which of them a test notices (docs/design/mutants.md).

The changes stand in tests/mutants/*.txt, one file a module. Each is made in a scratch copy of the tree, the tests that
could see it are built one after the other and run until one fails; a crash and a hang are failures like others. What no
test noticed is a survivor: it needs a test, or a line in tests/mutants/survivors that says why none can see it.

Nothing in the tree itself is touched. Verdicts are kept in build/mutants, so a run that was stopped goes on where it
was, and a tree that did not change costs nothing.
"""
import argparse
import hashlib
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import threading
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
LISTS = TOP / "tests" / "mutants"
WANTED_PERCENT = 95
BUILD_LIMIT_S = 900
# The longest a test may take: a multiple of what it takes on sound code, so that a hang is told from a busy machine.
LIMIT_FACTOR, LIMIT_LEAST_S = 4, 20
# Parts of the tree that no test is built from.
APART = re.compile(r"^(docs/|tests/mutants/|scripts/|bench/|build/|\.|README|Makefile)")


def stop(text):
    sys.exit("mutants: " + text)


# --- the list ---


class Mutant:
    def __init__(self, module, name, tests):
        self.module, self.name, self.tests = module, name, tests
        self.file, self.meaning, self.old, self.new = "", "", "", ""

    def fingerprint(self):
        text = "\0".join((self.file, self.old, self.new, self.tests))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_list(path):
    """`tests: REGEX` before the first entry is what all of them use; an entry is
    === name / file / meaning / optional `tests: REGEX` / --- / old text / +++ / new text"""
    module, default, mutants, part = path.stem, None, [], None
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if line.startswith("=== "):
            mutants.append(Mutant(module, line[4:].strip(), default))
            part = "head"
        elif part is None:
            if line.startswith("tests: "):
                default = line[7:].strip()
            elif line and not line.startswith("#"):
                stop(f"{path.name}:{number}: expected `tests:`, a comment or an entry")
        elif part == "head" and line.startswith("tests: "):
            mutants[-1].tests = line[7:].strip()
        elif part == "head" and line == "---":
            part = "old"
        elif part == "old" and line == "+++":
            part = "new"
        elif part == "head":
            if not mutants[-1].file:
                mutants[-1].file = line.strip()
            else:
                mutants[-1].meaning = (mutants[-1].meaning + " " + line).strip()
        else:
            setattr(mutants[-1], part, getattr(mutants[-1], part) + line + "\n")
    for mutant in mutants:
        mutant.old, mutant.new = mutant.old.strip("\n"), mutant.new.strip("\n")
        if not (mutant.file and mutant.meaning and mutant.old and mutant.tests):
            stop(f"{path.name}: {mutant.name}: file, meaning, tests or old text is missing")
    return mutants


def read_lists():
    mutants = [mutant for path in sorted(LISTS.glob("*.txt")) for mutant in parse_list(path)]
    names = [mutant.name for mutant in mutants]
    for name in set(names):
        if names.count(name) > 1:
            stop(f"two entries are called {name}")
    return mutants


def read_survivors():
    path = LISTS / "survivors"
    reasons = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.strip() and not line.startswith("#"):
            name, colon, reason = line.partition(":")
            if not colon or not reason.strip():
                stop(f"survivors: no reason in `{line}`")
            reasons[name.strip()] = reason.strip()
    return reasons


def stale(mutant):
    """Why an entry cannot be planted any more, or None."""
    path = TOP / mutant.file
    if not path.exists():
        return "its file is gone"
    found = path.read_text().count(mutant.old)
    if found != 1:
        return f"its old text is there {found} times"
    return "old and new text are the same" if mutant.old == mutant.new else None


# --- the scratch copies ---


def tree_files():
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TOP,
                             stdout=subprocess.PIPE, check=True).stdout.decode()
    return sorted(name for name in listing.split("\0") if name and (TOP / name).is_file())


def tree_hash(names):
    digest = hashlib.sha256()
    for name in names:
        if not APART.match(name):
            digest.update(name.encode() + b"\0" + hashlib.sha256((TOP / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def write_if_other(path, content, mode):
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


class Scratch:
    """A copy of the tree with a build folder of its own."""

    def __init__(self, folder, names):
        self.tree, self.build, self.log = folder / "tree", folder / "build", folder / "log"
        self.log.mkdir(parents=True, exist_ok=True)
        kept = set(names)
        for name in names:
            write_if_other(self.tree / name, (TOP / name).read_bytes(), (TOP / name).stat().st_mode)
        for path in [p for p in self.tree.rglob("*") if p.is_file() and str(p.relative_to(self.tree)) not in kept]:
            path.unlink()
        self.configure()

    def configure(self):
        if not (self.build / "build.ninja").exists():
            # Without debug information, and without warnings: a mutant may leave a variable unused.
            command = ["cmake", "--preset", "release", "-B", str(self.build), "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -w"]
            lld = shutil.which("ld.lld", path=os.environ.get("PATH", "") + ":/usr/lib/llvm-14/bin")
            if lld: # links a test in a quarter of the time
                command.append(f"-DCMAKE_EXE_LINKER_FLAGS=-B{os.path.dirname(lld)} -fuse-ld=lld")
            if shutil.which("ccache") and "CMAKE_C_COMPILER_LAUNCHER" not in os.environ:
                command.append("-DCMAKE_C_COMPILER_LAUNCHER=ccache")
            done = subprocess.run(command, cwd=self.tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode:
                stop("the scratch copy cannot be configured:\n" + done.stdout.decode(errors="replace"))

    def tests(self):
        """Test name -> the ninja target that must be built for it (`all` when a script runs it)."""
        subprocess.run(["ninja", "-C", str(self.build), "build.ninja"], stdout=subprocess.DEVNULL, check=True)
        found = {}
        for listing in self.build.rglob("CTestTestfile.cmake"):
            for name, program in re.findall(r'add_test\((?:\[=\[)?([\w.+-]+?)(?:\]=\])? "([^"]+)"', listing.read_text()):
                inside = program.startswith(str(self.build) + "/")
                found[name] = os.path.relpath(program, self.build) if inside else "all"
        return found

    def make(self, targets, jobs=1):
        """None, or what the compiler said."""
        try:
            done = subprocess.run(["nice", "ninja", "-C", str(self.build), "-j", str(jobs), *targets],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BUILD_LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"the build took over {BUILD_LIMIT_S} s"
        return done.stdout.decode(errors="replace") if done.returncode else None

    def run(self, test, limit_s):
        """(passed, output). The limit is kept here: ctest's --timeout does not hold for tests that have one of their own."""
        running = subprocess.Popen(["nice", "ctest", "--test-dir", str(self.build), "-R", f"^{re.escape(test)}$",
                                    "--output-on-failure"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            text = running.communicate(timeout=limit_s)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            subprocess.run(["pkill", "-KILL", "-s", str(running.pid)])
            text = running.communicate()[0].decode(errors="replace")
            return False, text + f"\nit took over {limit_s:.0f} s\n"
        return running.returncode == 0 and "100% tests passed" in text, text


# --- judging ---


class Judge:
    def __init__(self, folder, tree, mutants):
        self.folder, self.tree, self.lock = folder, tree, threading.Lock()
        self.verdicts_path, self.base_path = folder / "verdicts.json", folder / "baseline.json"
        self.verdicts = self.load(self.verdicts_path)
        self.base = self.load(self.base_path)
        if self.base.get("tree") != tree:
            self.base = {"tree": tree, "seconds": {}}
        self.mutants = mutants
        self.failing = set()

    @staticmethod
    def load(path):
        return json.loads(path.read_text()) if path.exists() else {}

    def known(self, mutant, any_tree):
        """The verdict of an earlier run on the same tree; with any_tree also that it was noticed on another one."""
        verdict = self.verdicts.get(mutant.name)
        if not verdict or verdict["entry"] != mutant.fingerprint():
            return None
        same = verdict["tree"] == self.tree
        return verdict if same or (any_tree and verdict["by"]) else None

    def baseline(self, scratch, test, target):
        """Seconds the test takes on sound code; None when it fails there."""
        if test in self.base["seconds"] or test in self.failing:
            return self.base["seconds"].get(test)
        said = scratch.make([target], os.cpu_count() or 1)
        if said:
            stop(f"{target} does not build without any change:\n{said[-4000:]}")
        for _ in range(2): # once more: the machine may have been busy
            start = time.monotonic()
            passed, text = scratch.run(test, 600)
            if passed:
                break
        with self.lock:
            if passed:
                self.base["seconds"][test] = round(time.monotonic() - start, 2)
                self.base_path.write_text(json.dumps(self.base, indent=1))
            else:
                (scratch.log / f"baseline-{test}.txt").write_text(text)
                self.failing.add(test)
                print(f"mutants: {test} fails without any change and is left out", flush=True)
        return self.base["seconds"].get(test)

    def order(self, mutant, tests):
        """Those named after the file first, then those that noticed others of this module, then the quick ones."""
        stem = pathlib.Path(mutant.file).stem
        caught = [verdict["by"] for verdict in self.verdicts.values() if verdict.get("module") == mutant.module]
        return sorted(tests, key=lambda test: (f"_{stem}_test" not in test, -caught.count(test),
                                               self.base["seconds"].get(test, 0)))

    def judge(self, scratch, mutant, tests):
        path = scratch.tree / mutant.file
        sound, start = path.read_text(), time.monotonic()
        by, broken, log = "", "", []
        try:
            path.write_text(sound.replace(mutant.old, mutant.new, 1))
            for test in self.order(mutant, tests):
                broken = scratch.make([tests[test]]) or ""
                if broken:
                    break
                passed, text = scratch.run(test, max(LIMIT_LEAST_S, LIMIT_FACTOR * self.base["seconds"][test]))
                log.append(text)
                if not passed:
                    by = test
                    break
        finally:
            path.write_text(sound)
        (scratch.log / f"{mutant.name}.txt").write_text(broken or "\n".join(log[-1:]))
        verdict = {"entry": mutant.fingerprint(), "tree": self.tree, "module": mutant.module, "by": by,
                   "broken": bool(broken), "seconds": round(time.monotonic() - start, 1)}
        with self.lock:
            self.verdicts[mutant.name] = verdict
            self.verdicts_path.write_text(json.dumps(self.verdicts, indent=1))
            print(line_of(mutant, verdict), flush=True)


def line_of(mutant, verdict):
    said = "DOES NOT BUILD" if verdict["broken"] else verdict["by"] or "SURVIVED"
    return f"{mutant.name:<44} {mutant.module:<8} {said:<34} {verdict['seconds']:6.1f}"


def judge_all(judge, scratches, todo):
    tests = scratches[0].tests()
    work = queue.Queue()
    for mutant in todo:
        could = [test for test in tests if re.search(mutant.tests, test)]
        if not could:
            stop(f"{mutant.name}: no test is called {mutant.tests}")
        chosen = {test: tests[test] for test in could if judge.baseline(scratches[0], test, tests[test]) is not None}
        work.put((mutant, chosen))

    def worker(scratch):
        while True:
            try:
                mutant, chosen = work.get_nowait()
            except queue.Empty:
                return
            judge.judge(scratch, mutant, chosen)

    threads = [threading.Thread(target=worker, args=(scratch,), daemon=True) for scratch in scratches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- the report ---


def report(judge, mutants, reasons):
    """Prints the table and the totals; returns what is wrong, a line each."""
    wrong, totals = [], {}
    print(f"\n{'mutant':<44} {'module':<8} {'noticed by':<34} {'s':>6}")
    for mutant in mutants:
        verdict = judge.verdicts.get(mutant.name)
        total = totals.setdefault(mutant.module, [0, 0])
        total[1] += 1
        if not verdict:
            wrong.append(f"{mutant.name}: no verdict")
            continue
        print(line_of(mutant, verdict))
        if verdict["broken"]:
            wrong.append(f"{mutant.name}: does not build: mend the entry")
        elif verdict["by"]:
            total[0] += 1
            if mutant.name in reasons:
                wrong.append(f"{mutant.name}: is noticed: take it off the list of survivors")
        elif mutant.name in reasons:
            print(f"    {reasons[mutant.name]}")
        else:
            wrong.append(f"{mutant.name}: survived ({mutant.file}: {mutant.meaning})")
    noticed, planted = sum(total[0] for total in totals.values()), len(mutants)
    print()
    for module, total in sorted(totals.items()):
        print(f"{module:<10} {total[0]:>3} of {total[1]:>3}")
    percent = 100 * noticed // planted if planted else 100
    print(f"{'all':<10} {noticed:>3} of {planted:>3}, {percent}%")
    if noticed * 100 < planted * WANTED_PERCENT:
        wrong.append(f"{percent}% are noticed, {WANTED_PERCENT}% are asked for")
    for test in sorted(judge.failing):
        wrong.append(f"{test} fails without any change")
    return wrong


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("names", nargs="?", default="", help="only entries whose name matches this regular expression")
    options.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="scratch copies working side by side")
    options.add_argument("--build", default=str(TOP / "build" / "mutants"), help="where scratch copies and verdicts are kept")
    options.add_argument("--check", action="store_true", help="only whether every entry still applies")
    options.add_argument("--keep", action="store_true", help="what was noticed on an earlier tree is not tried again")
    options.add_argument("--fresh", action="store_true", help="forget all earlier verdicts")
    given = options.parse_args()

    everything = read_lists()
    mutants = [mutant for mutant in everything if re.search(given.names, mutant.name)]
    reasons = read_survivors()
    gone = [f"{mutant.name}: {stale(mutant)}" for mutant in mutants if stale(mutant)]
    gone += [f"survivors: there is no entry {name}" for name in reasons if name not in {m.name for m in everything}]
    if given.check or gone:
        print("\n".join(gone) if gone else f"mutants: {len(mutants)} entries apply")
        return 1 if gone else 0

    folder, names = pathlib.Path(given.build), tree_files()
    folder.mkdir(parents=True, exist_ok=True)
    judge = Judge(folder, tree_hash(names), mutants)
    if given.fresh:
        judge.verdicts = {}
    todo = [mutant for mutant in mutants if not judge.known(mutant, given.keep)]
    if todo:
        jobs = max(1, min(given.jobs, len(todo)))
        judge_all(judge, [Scratch(folder / str(i), names) for i in range(jobs)], todo)
    wrong = report(judge, mutants, reasons)
    if wrong:
        print("\n" + "\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

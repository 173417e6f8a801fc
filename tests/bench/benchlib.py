"""What the drivers `move` and `syscall` share: a lab to measure in, a program that is moved, the
peer on the same link, and the report."""

import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
from lab import BIN, Lab, wait_until  # noqa: E402

WORK = "/var/tmp/bench"  # on every node, of its own
PROGRAMS = "/usr/lib/drover"  # where a node sees BIN
PORT = 7600
MOVED = re.compile(r"moved from (\S+) to (\S+): frozen ([\d.]+) ms, took ([\d.]+) ms, ([\d.]+) MB")


class BenchLab(Lab):
    """A lab with a link_bench server on n2, and its nodes on CPUs that we choose."""

    def __init__(self, nodes):
        super().__init__(nodes, name=f"bench{os.getpid()}")
        self.cpus = {}
        try:
            for node in self.nodes:
                self.exec(node, ["mkdir", "-p", WORK])
            self.server = self.popen("n2", [f"{PROGRAMS}/link_bench", "serve", PORT],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except BaseException:
            self.down()
            raise

    def place(self, cpus):
        """Binds all that runs on a node to one CPU: {node: cpu}. To be repeated after a move, for
        what has come to life since then."""
        self.cpus = cpus
        for node, cpu in cpus.items():
            for pid in self.processes(node):
                for task in tasks(pid):
                    with contextlib.suppress(OSError):  # it ended
                        os.sched_setaffinity(task, {cpu})

    def processes(self, node):
        found = set()
        for group in Path("/sys/fs/cgroup").glob(f"**/moslab-{self.name}/{node}"):
            for procs in group.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found.update(map(int, procs.read_text().split()))
        return found

    def placed(self, node, argv):
        """argv on the CPU of the node."""
        return ["taskset", "-c", self.cpus[node], *argv] if node in self.cpus else argv

    def ask_link(self, megabytes=0):
        """What the bare link from n1 to n2 gives right now."""
        ask = [f"{PROGRAMS}/link_bench", "ask", "n2", PORT, megabytes]
        return json.loads(self.out("n1", self.placed("n1", ask), timeout=300))


def tasks(pid):
    with contextlib.suppress(OSError):
        return [int(task) for task in os.listdir(f"/proc/{pid}/task")]
    return []


class Subject:
    """A program on n1, started with mosrun or without. Its output is in the file self.output
    of n1, or in a pipe when `talks`, along with its stdin."""

    def __init__(self, lab, program, *args, mosrun=True, talks=False, options=()):
        self.lab = lab
        name = f"{program.rsplit('/', 1)[-1]}.{time.monotonic_ns()}"
        self.output = f"{WORK}/{name}.out"
        launcher = " ".join(["mosrun", *options, ""]) if mosrun else ""
        redirect = "" if talks else f"</dev/null >{self.output} 2>&1 "
        script = f"echo $$ >{WORK}/{name}.pid; exec {launcher}\"$@\" {redirect}"
        # Without mosrun in a session of its own: CRIU dumps no process of a foreign session.
        session = [] if mosrun else ["setsid", "-w"]
        self.process = lab.popen(
            "n1", lab.placed("n1", [*session, "sh", "-c", script, "sh",
                                    program if "/" in program else f"{PROGRAMS}/{program}", *args]),
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
            stderr=None if mosrun else subprocess.DEVNULL)  # setsid tells of our kill
        self.pid = int(wait_until(
            lambda: lab.exec("n1", ["cat", f"{WORK}/{name}.pid"], check=False).stdout.strip(),
            what=f"the pid of {program}"))

    def ask(self, line):
        """One line to a program that talks, and its JSON answer."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"no answer to {line!r}: the program ended")
        return json.loads(answer)

    def wait_for(self, word, timeout=60):
        wait_until(lambda: word in self.lab.read("n1", self.output).split("\n"), timeout, word,
                   every=0.1)

    def move(self, target):
        """Moves it; returns what mosmigrate says of it, in ms and MB."""
        said = self.lab.out("n1", ["mosmigrate", "-v", self.pid, target], timeout=300)
        found = MOVED.search(said)
        if not found:
            raise RuntimeError(f"mosmigrate said {said!r}")
        if self.lab.cpus:
            self.lab.place(self.lab.cpus)
        freeze, total, megabytes = map(float, found.groups()[2:])
        return {"freeze_ms": freeze, "total_ms": total, "megabytes": megabytes}

    def must_be_on(self, node):
        """What was just measured was measured there: no call has brought it home meanwhile."""
        jobs = json.loads(self.lab.out("n1", ["mosps", "--json"]))
        where = [job["where"] for job in jobs if job["pid"] == self.pid]
        if where != [node]:
            raise RuntimeError(f"process {self.pid} should be on {node}, but is on {where}")

    def end(self):
        self.lab.exec("n1", ["kill", "-KILL", self.pid], check=False)
        self.process.wait(timeout=20)


def medians(rounds):
    """Of a list of (nested) dicts of numbers: the dict of their medians. What only some of them
    have is of those."""
    if isinstance(rounds[0], dict):
        keys = dict.fromkeys(key for r in rounds for key in r)
        return {key: medians([r[key] for r in rounds if key in r]) for key in keys}
    if all(isinstance(value, (int, float)) for value in rounds):
        return round(statistics.median(rounds), 4)
    return rounds[0]


def bar(what, value, limit, at_least=False):
    """One line of a table of bars; `value` is None when it was not measured."""
    met = None if value is None else (value >= limit if at_least else value <= limit)
    return {"what": what, "bar": f"{'>=' if at_least else '<='} {limit}",
            "value": None if value is None else round(value, 3), "met": met}


def surroundings():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                            capture_output=True, text=True, check=False).stdout.strip()
    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "kernel": platform.release(), "cpu": cpu.group(1) if cpu else platform.machine(),
            "cpus": os.cpu_count(), "commit": commit or None,
            "load_before": [round(load, 2) for load in os.getloadavg()]}


def report(name, result):
    """Prints the result and writes it to build/bench/NAME.json."""
    result["surroundings"]["load_after"] = [round(load, 2) for load in os.getloadavg()]
    text = json.dumps(result, indent=2)
    path = ROOT / "build" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(text)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def check_ready(name, *programs):
    """Ends the program with one line when it cannot work."""
    if os.geteuid() != 0:
        sys.exit(f"{name}: it brings a lab up: run it as root")
    for program in ("moslab", "migrated", *programs):
        if not (BIN / program).exists():
            sys.exit(f"{name}: {BIN / program}: not built")

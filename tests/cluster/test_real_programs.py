"""Programs of others, whose runtimes do what nobody would think of, compute while they are moved.

DROVER_REAL_MOVES says how often Go and Java are moved (default 9), DROVER_REAL_SECONDS how long each
set of stress-ng's runs (default 5). DROVER_REAL_FIGURES names a file that figures are added to.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from numbered_job import ASK_AGAIN, PROGRAMS, NumberedJob

# With them the daemons of a lab are too slow for what these ask of them.
pytestmark = pytest.mark.unsanitized

SOURCES = Path(__file__).parent / "programs"
MOVES = int(os.environ.get("DROVER_REAL_MOVES", "9"))
SECONDS = int(os.environ.get("DROVER_REAL_SECONDS", "5"))
FIGURES = os.environ.get("DROVER_REAL_FIGURES")
TOUR = ["n2", "n3", "home"]
# Threads that are made bring a process home, at any moment.
BAD_MOMENT = re.compile(ASK_AGAIN.pattern + "|it came home meanwhile|is at home already")
MOVED = re.compile(r"moved from (\S+) to (\S+): frozen ([\d.]+) ms")
FORCED = re.compile(r": moved from \S+ to \S+, frozen .* \((?!asked)(\S+?)\)$", re.M)


def note(what, **figures):
    if FIGURES:
        with open(FIGURES, "a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **figures}) + "\n")


class Rounds:
    """Lines that come in order; what they say is compared in the end."""

    def __init__(self):
        self.count = 0
        self.all = []

    def take(self, line):
        assert not line.startswith("wrong"), line
        assert int(line.split()[0]) == self.count, f"line {self.count}: {line!r}"
        self.all.append(line)
        self.count += 1


class Freezes:
    """How long moves took, by their kind, of processes of so many threads."""

    def __init__(self):
        self.of = defaultdict(list)

    def take(self, words):
        found = MOVED.search(words)
        source, target, ms = found[1], found[2], float(found[3])
        kind = "home" if target == "n1" else "out" if source == "n1" else "hop"
        self.of[kind].append(ms)

    def medians(self):
        return {kind: round(statistics.median(ms), 1) for kind, ms in self.of.items()}


def forced_home(logs):
    """{the call: how often it brought a process home}"""
    return dict(Counter(FORCED.findall(logs)))


def tour(lab, what, command, environment=(), every_ms=20):
    """Moves a program about, and compares what it printed with a run that was not moved."""
    rounds, freezes, threads = Rounds(), Freezes(), []
    job = NumberedJob(lab, *environment, *command, program="/usr/bin/env", user=1000,
                      every_ms=every_ms, lines=rounds)
    job.progress(2, timeout=60)
    moved = 0
    while moved < MOVES:
        target = TOUR[moved % len(TOUR)]
        done = lab.exec("n1", ["mosmigrate", "-v", job.pid, target], check=False)
        assert job.alive(), f"it ended ({job.process.returncode}): {job.error}"
        if done.returncode == 0:
            freezes.take(done.stdout + done.stderr)
        else:
            assert BAD_MOMENT.search(done.stderr), done.stderr
            if target != "home":
                continue
        moved += 1
        threads.append(int(lab.out("n1", ["sh", "-c", f"ls /proc/{job.pid}/task | wc -l"])))
        job.progress(2, timeout=60)
    printed = job.finish(timeout=60)
    unmoved = subprocess.run([*map(str, command), str(printed)], stdout=subprocess.PIPE, text=True,
                             env={**os.environ, **dict(e.split("=") for e in environment)},
                             timeout=300, check=True).stdout
    assert unmoved == "".join(rounds.all) + f"end {printed}\n"
    note(what, moves=MOVES, rounds=printed, threads=statistics.median(threads),
         freeze_ms=freezes.medians(), came_home_for=forced_home(lab.daemon_logs()))


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes a program where the nodes see it: next to the other ones."""
    def make(name, *command):
        target = PROGRAMS / name
        subprocess.run([*command, target, *SOURCES.glob(f"{name}.*")], check=True, timeout=300,
                       env={**os.environ, "CGO_ENABLED": "0",
                            "GOCACHE": str(tmp_path_factory.mktemp("go"))})
        return target
    return make


@needs("go")
@pytest.mark.parametrize("procs", [2, 16])
def test_go_computes_the_same(lab, made, procs):
    program = made("gowork", "go", "build", "-o")
    tour(lab(3), f"go, GOMAXPROCS={procs}", [program], [f"GOMAXPROCS={procs}"])


@needs("java", "javac")
@pytest.mark.parametrize("environment", [
    pytest.param([], id="keeps_its_threads"),
    pytest.param(["MAKES_THREADS=1"], id="makes_threads"),
])
def test_java_computes_the_same(lab, made, environment):
    classes = made("JavaWork", "javac", "-XDignore.symbol.file", "-d")
    what = " ".join(["java", *environment])
    tour(lab(3), what, ["java", "-cp", classes, "JavaWork"], environment)


# What a worker of stress-ng's cannot be moved for, for a moment or because it is over.
PASSING = re.compile(BAD_MOMENT.pattern + "|has ended|[Nn]o such process|lost its first thread")
SETS = {
    "cpu": ["--cpu", "4", "--verify"],
    "memory": ["--vm", "1", "--vm-bytes", "8m", "--malloc", "1", "--matrix", "1", "--mergesort", "1",
               "--verify"],
    "threads": ["--pthread", "1", "--pthread-max", "16", "--mutex", "1", "--futex", "1",
                "--membarrier", "1"],
    "signals": ["--signal", "1", "--sigsegv", "1", "--sigfpe", "1", "--sigq", "1", "--sigrt", "1",
                "--sigsuspend", "1", "--sigpending", "1", "--sigfd", "1", "--signest", "1",
                "--sigtrap", "1", "--sigio", "1"],
    "timers": ["--timer", "1", "--timerfd", "1", "--itimer", "1", "--hrtimers", "1", "--nanosleep",
               "1", "--clock", "1", "--poll", "1"],
}


def workers(lab, job):
    """The processes below the job's own."""
    lines = lab.out("n1", ["ps", "-eo", "pid=,ppid=,stat=,comm="]).splitlines()
    return [int(pid) for pid, _, state, comm in (line.split(None, 3) for line in lines)
            if comm.startswith("stress-ng-") and not state.startswith("Z") and int(pid) != job]


@needs("stress-ng")
@pytest.mark.parametrize("which", SETS)
def test_stress_ng_finds_nothing(lab, which):
    """Its workers count in memory that all share; here each has its own (nothing_shared.c)."""
    made = lab(3)
    freezes, refused, moves = Freezes(), Counter(), 0
    # At the end of the queue for a CPU: what moves them is to have its turn.
    command = ["nice", "-n", "19", "env", f"LD_PRELOAD={PROGRAMS}/nothing_shared.so", "stress-ng",
               "--temp-path", "/tmp", "-t", str(SECONDS), *SETS[which]]
    job = made.popen("n1", ["sh", "-c", 'echo $$; exec mosrun "$@"', "sh", *command], user=1000)
    pid = int(job.stdout.readline())
    for number in range(10 ** 9):
        if job.poll() is not None:
            break
        for worker in workers(made, pid):
            done = made.exec("n1", ["mosmigrate", "-v", worker, TOUR[number % len(TOUR)]],
                             check=False)
            if done.returncode == 0:
                freezes.take(done.stdout + done.stderr)
                moves += 1
            else:
                refused[done.stderr.split(": ", 2)[-1].strip()] += 1
    out, error = job.communicate(timeout=30)
    logs = made.daemon_logs()
    note(f"stress-ng {which}", moves=moves, freeze_ms=freezes.medians(),
         came_home_for=forced_home(logs), refused=dict(refused))
    assert job.returncode == 0 and ": fail:" not in out + error, out + error
    lasting = {why: n for why, n in refused.items()
               if not PASSING.search(why)}
    assert not lasting
    assert moves > 1

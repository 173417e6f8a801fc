"""Runs one conformance program as a Drover job and moves it about until it ends."""

import itertools
import json
import os
import random
import subprocess
import threading
import time
from dataclasses import dataclass, field

from program import BUILD, SOURCES, Outcome

HOME_NODE = "n1"
# Where to, over and over: both remote nodes, hops between them, homecomings from either.
ROUND_TRIP = ("n2", "home", "n2", "n3", "home", "n3", "n2", "home")
STAY_AWAY = ("n2", "n3")
SHORTEST_STAY_S, LONGEST_STAY_S = 0.02, 0.25
MOVE_TIMEOUT_S = 30
END_TIMEOUT_S = 180

report_numbers = itertools.count()


def text_of(data):
    return data.decode(errors="backslashreplace") if isinstance(data, bytes) else data or ""


@dataclass
class MovedRun:
    """How a run with moves went. `job` is the job's entry in `mosps --json --ended`, or None."""

    outcome: Outcome
    job: dict
    moves: list = field(default_factory=list)  # (target, seconds, error text or "")
    seconds: float = 0.0
    errors: str = ""

    def call(self, name):
        """(served, forced_home) of a system call while it was away."""
        counts = ((self.job or {}).get("calls") or {}).get(name) or {}
        return counts.get("served", 0), counts.get("forced_home", 0)


class Job:
    """A program that runs on the home node under mosrun."""

    def __init__(self, lab, program, rounds):
        self.lab = lab
        self.report = f"/tmp/conform-{os.getpid()}-{program.name}-{next(report_numbers)}"
        self.ready = threading.Event()
        self.output = []
        command = ["/usr/bin/python3", str(SOURCES / "parent.py"), self.report]
        command += [str(BUILD / "bin" / "mosrun"), str(program.path), "--rounds", str(rounds)]
        self.process = lab.popen(
            HOME_NODE,
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.errors = []
        self.readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def _read_output(self):
        for line in self.process.stdout:
            self.output.append(text_of(line))
            self.ready.set()
        self.ready.set()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(text_of(line))

    def ended(self):
        return self.process.poll() is not None

    def ends_within(self, seconds):
        end = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < end:
            time.sleep(0.02)
        return self.ended()

    def pid(self):
        """Its pid on the home node, or None; the job may print its first line before it is noted."""
        for _ in range(50):
            pid = self.reported().get("pid")
            if pid is not None or self.ended():
                return pid
            time.sleep(0.05)
        return None

    def end(self):
        """Waits for its end and for all of its output."""
        self.process.wait(timeout=END_TIMEOUT_S)
        for reader in self.readers:
            reader.join(timeout=END_TIMEOUT_S)

    def close(self):
        """Ends the job, if it has not ended (by its pid at home, as anybody there would)."""
        pid = None if self.ended() else self.reported().get("pid")
        if pid is not None:
            self.lab.exec(HOME_NODE, ["kill", "-9", str(pid)], check=False)
        if not self.ends_within(5.0):
            self.process.kill()
        self.lab.exec(HOME_NODE, ["rm", "-f", self.report], check=False)

    def reported(self):
        """What parent.py has written so far: pid, and status once it has ended."""
        shown = self.lab.exec(HOME_NODE, ["cat", self.report], check=False, timeout=MOVE_TIMEOUT_S)
        return {line.split()[0]: int(line.split()[1]) for line in text_of(shown.stdout).splitlines()}


def job_entry(lab, pid):
    """The job as `mosps` shows it after its end, of which its node hears in its own time."""
    for _ in range(50):
        shown = lab.exec(
            HOME_NODE,
            [str(BUILD / "bin" / "mosps"), "--json", "--ended"],
            check=False,
            timeout=MOVE_TIMEOUT_S,
        )
        jobs = json.loads(text_of(shown.stdout)) if shown.returncode == 0 else []
        ended = [job for job in jobs if job.get("pid") == pid]
        if ended:
            return ended[-1]
        time.sleep(0.1)
    return None


def move(lab, pid, target):
    """(target, seconds, error) of one mosmigrate."""
    start = time.monotonic()
    done = lab.exec(
        HOME_NODE,
        [str(BUILD / "bin" / "mosmigrate"), str(pid), target],
        check=False,
        timeout=MOVE_TIMEOUT_S,
    )
    error = ""
    if done.returncode != 0:
        error = text_of(done.stderr).strip() or f"exit status {done.returncode}"
    return target, time.monotonic() - start, error


def run_moved(lab, program, rounds, seed):
    """Runs the program under mosrun on n1 and moves it at random moments until it ends."""
    dice = random.Random(f"{seed} {program.name}")
    start = time.monotonic()
    job = Job(lab, program, rounds)
    try:
        job.ready.wait(timeout=END_TIMEOUT_S)
        pid = job.pid()
        moves = []
        for target in itertools.cycle(STAY_AWAY if program.stays_away else ROUND_TRIP):
            time.sleep(dice.uniform(SHORTEST_STAY_S, LONGEST_STAY_S))
            if job.ended() or pid is None or time.monotonic() - start > END_TIMEOUT_S:
                break
            entry = move(lab, pid, target)
            if entry[2].endswith("already") and program.may_come_home:
                continue  # It has come home by itself.
            if entry[2] and job.ends_within(1.0):
                break  # The order met the program's end.
            moves.append(entry)
        job.end()
        status = job.reported().get("status")
        outcome = Outcome(status, "".join(job.output))
        entry = job_entry(lab, pid)
        return MovedRun(outcome, entry, moves, time.monotonic() - start, "".join(job.errors))
    finally:
        job.close()

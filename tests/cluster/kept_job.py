"""A job whose parent tells what the kernel says of it: programs/keeper.py, at n1."""

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

from lab import ROOT, wait_until
from numbered_job import ASK_AGAIN, PROGRAMS, Sequence

KEEPER = ROOT / "tests/cluster/programs/keeper.py"


class KeptJob:
    """PROGRAM prints lines, as those of NumberedJob do: they are checked as they come."""

    def __init__(self, lab, program="numbers", *args, every_ms=2, user=None, lines=None,
                 options=()):
        self.lab = lab
        self.program = program
        self.lines = lines or Sequence()
        self.problem = None
        self.events = []  # what its parent was told, in words
        self._keeper = lab.popen(
            "n1", ["env", f"EVERY_MS={every_ms}", "/usr/bin/python3", KEEPER, "mosrun",
                   *options, PROGRAMS / program, *args], user=user)
        self._threads = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=self._read_events, daemon=True)]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.events, what="its parent's word")
        self.pid = int(self.events.pop(0).split()[1])
        self.progress(2)
        # As this machine knows it: signals are sent more quickly than by a command on the node.
        self.host_pid = next(pid for pid, _ in lab.processes("n1", (program,))
                             if self._pid_inside(pid) == self.pid)

    @staticmethod
    def _pid_inside(pid):
        return int(re.search(r"^NSpid:.*\s(\d+)$", Path(f"/proc/{pid}/status").read_text(),
                             re.M)[1])

    def _read(self):
        try:
            for line in self._keeper.stdout:
                if not line.startswith("end "):
                    self.lines.take(line)
                else:
                    assert int(line.split()[1]) == self.lines.count, line
        except (AssertionError, ValueError) as problem:
            self.problem = problem

    def _read_events(self):
        for line in self._keeper.stderr:
            self.events.append(line.strip())

    # What it does.

    def check(self):
        if self.problem:
            raise self.problem

    def alive(self):
        return not (self.events and self.events[-1].startswith("ended"))

    def progress(self, lines=3, timeout=20):
        goal = self.lines.count + lines
        wait_until(lambda: self.lines.count >= goal or self.problem or not self.alive(),
                   timeout=timeout, what=f"{lines} more lines than {goal - lines}")
        self.check()
        assert self.lines.count >= goal, self.events

    def told(self):
        return next(one for one in json.loads(self.lab.out("n1", ["mosps", "--json"]))
                    if one["pid"] == self.pid)

    def expect(self, event, since, timeout=20):
        """Waits for its parent to be told that, after so many other words."""
        wait_until(lambda: event in self.events[since:] or not self.alive(), timeout=timeout,
                   what=event)
        assert event in self.events[since:], self.events

    # What is done to it.

    def send(self, number):
        os.kill(self.host_pid, number)

    def stop(self, number=signal.SIGSTOP):
        since = len(self.events)
        self.send(number)
        self.expect(f"stopped {int(number)}", since)

    def go_on(self):
        since = len(self.events)
        self.send(signal.SIGCONT)
        self.expect("continued", since)

    def migrate(self, target, check=True, timeout=60):
        deadline = time.monotonic() + timeout
        while True:
            done = self.lab.exec("n1", ["mosmigrate", self.pid, target], check=False)
            if not (done.returncode == 1 and ASK_AGAIN.search(done.stderr)) or \
                    time.monotonic() > deadline:
                break
        assert not check or done.returncode == 0, done.stderr
        return done

    def where(self):
        return self.told()["where"]

    def bodies(self):
        """Host pids of what there is of it on other nodes."""
        return [pid for node in self.lab.nodes[1:]
                for pid, _ in self.lab.processes(node, (self.program,))]

    def stands_still(self):
        """Whether nothing of it runs, at home or elsewhere, for a tenth of a second."""
        def state():
            found = []
            for pid in [self.host_pid, *self.bodies()]:
                for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
                    fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
                    found.append((task.name, fields[0], fields[11], fields[12]))
            return found
        try:
            before, printed = state(), self.lines.count
            time.sleep(0.1)
            return state() == before and self.lines.count == printed and before[0][1] in "tT"
        except OSError:
            return False  # a body that has just ended

    def await_standstill(self):
        wait_until(self.stands_still, timeout=20, what="standing still")

    def finish(self, status=0, number=signal.SIGUSR1, timeout=30):
        self.send(number)
        self.await_end(status, timeout)

    def await_end(self, status=0, timeout=30):
        wait_until(lambda: not self.alive(), timeout=timeout, what="its end")
        assert self.events[-1] == f"ended {status}", self.events
        for thread in self._threads:
            thread.join(timeout=10)
        self.check()

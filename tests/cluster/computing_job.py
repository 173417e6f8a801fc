"""programs/computes as a job whose memory is kept at home, and a watch over its copies."""

import json
import os
import re
import threading
import time
from pathlib import Path

from fault_cases import FaultLab
from lab import wait_until
from numbered_job import PROGRAMS


def shown(lab, pid):
    """What mosps says of a job; nothing if it does not know it."""
    jobs = json.loads(lab.out("n1", ["mosps", "--json"]))
    return next((job for job in jobs if job["pid"] == pid), None)


class ComputingJob:
    """Started in a directory of its own, by which it is told what to do."""

    def __init__(self, fault_lab, name, *program_args, options=("--keep-memory",)):
        self.fault_lab, self.lab = fault_lab, fault_lab.lab
        self.directory = f"/root/{name}"
        self.lab.exec("n1", ["mkdir", "-p", self.directory])
        script = 'echo $$; exec "$@" 2>>"$2/stderr"'
        self.process = self.lab.popen("n1", ["mosrun", *options, "sh", "-c", script, "sh",
                                             PROGRAMS / "computes", self.directory,
                                             *program_args])
        self.pid = int(self.process.stdout.readline())
        # The pid is told by the shell, which is not the program yet.
        wait_until(lambda: self.exists("effects"), what=f"{name} has begun")

    def exists(self, name):
        return (self.fault_lab.root("n1") / self.directory[1:] / name).exists()

    def want(self, name, wanted=True):
        path = self.fault_lab.root("n1") / self.directory[1:] / name
        path.touch() if wanted else path.unlink()

    def migrate(self, target, check=True):
        done = self.lab.exec("n1", ["mosmigrate", self.pid, target], check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def state(self):
        job = shown(self.lab, self.pid)
        return job["state"] if job else "gone"

    def wait_for(self, state, timeout=10.0):
        wait_until(lambda: self.state() == state, timeout=timeout, every=0.1,
                   what=f"{self.directory} is {state}")

    def why(self):
        return self.lab.out("n1", ["mosps", "--why", self.pid])

    def at_home(self):
        """Its status file at home, by the host's pid."""
        return next(copy for copy in self.fault_lab.copies() if copy.node == "n1" and
                    copy.pid == self.pid).status()

    def resident_mb(self):
        return int(re.search(r"^RssAnon:\s+(\d+)", self.at_home(), re.M)[1]) >> 10

    def masks(self):
        return dict(re.findall(r"^(SigBlk|SigIgn|SigCgt):\s+(\w+)", self.at_home(), re.M))

    def finish(self):
        """Lets it end; checks that there was one of it, and what it has computed. Returns what it
        says at its end: steps, whether SIGUSR2 waited, and milliseconds."""
        self.want("go")
        assert self.process.wait(timeout=30) == 0, self.error()
        lines = self.lab.read("n1", f"{self.directory}/done").splitlines()
        assert len(lines) == 1, lines
        steps, pending, ms = lines[0].split()
        return int(steps), int(pending), float(ms)

    def error(self):
        """What was said on its stderr."""
        return self.lab.read("n1", f"{self.directory}/stderr")


class Copy:
    """A process of a job's on a node: P at home, a body elsewhere."""

    def __init__(self, host_pid, node, pid):
        self.host_pid, self.node, self.pid = host_pid, node, pid

    def status(self):
        return Path(f"/proc/{self.host_pid}/status").read_text()

    def runs(self):
        """Whether any thread of it can run: at home those that nobody traces, elsewhere those that
        their guest does not hold."""
        for task in Path(f"/proc/{self.host_pid}/task").iterdir():
            state, tracer = FaultLab.state(f"{self.host_pid}/task/{task.name}")
            if state in "ZX" or FaultLab.dying(self.host_pid):
                continue
            if (tracer == "0") if self.node == "n1" else (state != "t"):
                return True
        return False


class CopyingLab(FaultLab):
    """A lab in which all copies of programs/computes are watched all the time."""

    def __init__(self, nodes, lease):
        super().__init__(nodes, lease)
        self.prepare({})
        self._known = {}
        self._ends = threading.Event()
        self.seen_twice = []
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def copies(self):
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (copy := self._copy(entry)):
                found.append(copy)
        return found

    def _copy(self, entry):
        try:
            if Path(f"/proc/{entry}/comm").read_text() != "computes\n":
                return None
            groups = Path(f"/proc/{entry}/cgroup").read_text()
            inner = re.search(r"^NSpid:.*\s(\d+)$", Path(f"/proc/{entry}/status").read_text(), re.M)
        except OSError:
            return None
        node = re.search(rf"moslab-{self.lab.name}/(n\d)/", groups)
        return Copy(int(entry), node[1], int(inner[1])) if node and inner else None

    def _look(self):
        while not self._ends.wait(0.05):
            running = {}
            for copy in self.copies():
                if self._runs(copy):
                    running.setdefault(copy.pid, []).append(copy)
            for pid, copies in running.items():
                # One may have stopped before the other was looked at.
                if len(copies) > 1 and all(map(self._runs, copies)):
                    self.seen_twice.append((time.monotonic(), pid, [one.node for one in copies]))

    @staticmethod
    def _runs(copy):
        try:
            return copy.runs()
        except OSError:
            return False  # it has ended

    def down(self):
        self._ends.set()
        self._watch.join()
        self.lab.down()

"""One thing goes wrong at one step of one move: what becomes of the process?"""

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab import BIN, Lab, wait_until
from numbered_job import NumberedJob

PATIENCE = 25  # seconds after which a process that neither runs nor has ended counts as hung
# The shortest lease: who is lost is lost soon.
BASE = "node-name = {}\nallow-root-jobs = yes\nlease-seconds = 8\n"


def fault_points():
    return subprocess.run([BIN / "deputy", "--list-fault-points"], capture_output=True, text=True,
                          check=True).stdout.split()


@dataclass(frozen=True)
class Case:
    """A move (out: n1 to n2; home: n2 to n1; hop: n2 to n3), a step of it, and what is done.

    A cut-off is a hop, too: what is cut is home from the node that the process leaves.
    What is done is that the step fails, that its program is killed (kill), that the link is cut,
    or one of OTHER_ACTIONS.
    """

    move: str
    point: str
    action: str

    def __str__(self):
        return f"{self.move}-{self.point}-{self.action}"

    @property
    def node(self):
        """The node at which this step is taken."""
        if self.point.startswith(("deputy.", "migrated.home.")):
            return "n1"
        return "n3" if self.target == "n3" and "leave" not in self.point else "n2"

    @property
    def links(self):
        """The link that is cut."""
        if self.move != "hop":
            return ("n1", "n2")
        return ("n2", "n3") if "leave" in self.point else ("n1", "n3")

    @property
    def before(self):
        return [] if self.move == "out" else ["n2"]

    @property
    def target(self):
        return {"out": "n2", "home": "home", "hop": "n3", "cut-off": "n3"}[self.move]

    @property
    def source(self):
        return "home" if self.move == "out" else "n2"

    @property
    def fault(self):
        return f"{self.point}:{self.action if self.action in ('fail', 'kill') else 'delay=1200'}"


MOVES = {
    "out": ("deputy.outbound.", "guest.image.", "migrated."),
    "home": ("deputy.home.", "guest.leave."),
    "hop": ("deputy.hop.", "guest.leave.", "guest.image.", "migrated.target."),
    "cut-off": ("deputy.hop.", "guest.leave."),
}


def all_cases():
    return [Case(move, point, action)
            for move, prefixes in MOVES.items()
            for point in fault_points() if point.startswith(prefixes)
            # Only between two remote nodes does a guest dial, only homeward is it discarded first.
            if not (move == "home" and point == "guest.leave.connected")
            for action in (("cut",) if move == "cut-off" else ("fail", "kill", "cut"))]


HEALS_EARLY = 2  # seconds
HEALS_LATE = 12  # longer than a lease and what home waits for its end


def deafen(lab, one, other):
    """Nothing that `other` sends arrives at `one`; answers to what is sent there are lost, too."""
    shown = lab.exec(one, ["ip", "-4", "-brief", "addr", "show", "scope", "global"]).stdout.split()
    lab.exec(other, ["ip", "neigh", "replace", shown[2].split("/")[0], "lladdr",
                     "02:00:00:00:00:00", "nud", "permanent", "dev", shown[0].split("@")[0]])


def cut_for(seconds):
    def strike(fault_lab, case):
        fault_lab.lab.cut(*case.links)
        time.sleep(seconds)
        fault_lab.lab.heal()
    return strike


def kill_all(node_of, name):
    def strike(fault_lab, case):
        for pid, _ in fault_lab.processes(node_of(case), (name,)):
            with contextlib.suppress(ProcessLookupError):  # it went with another of them
                os.kill(pid, signal.SIGKILL)
    return strike


def remote(case):
    """The node that the process goes to or, if that is home, the one that it leaves."""
    return case.source if case.target == "home" else case.target


# What is done at a step, besides what the step's own program does.
OTHER_ACTIONS = {
    "cut up": lambda fault_lab, case: deafen(fault_lab.lab, *case.links),
    "cut down": lambda fault_lab, case: deafen(fault_lab.lab, *reversed(case.links)),
    "cut, heals early": cut_for(HEALS_EARLY),
    "cut, heals late": cut_for(HEALS_LATE),
    "home's migrated killed": kill_all(lambda case: "n1", "migrated"),
    "other migrated killed": kill_all(remote, "migrated"),
    "deputy killed": kill_all(lambda case: "n1", "deputy"),
    "guest killed": kill_all(remote, "guest"),
    "node killed": lambda fault_lab, case: fault_lab.lab.kill(remote(case)),
}
OTHER_STEPS = {
    "out": ("deputy.outbound.image-sent", "deputy.outbound.commit-sent", "guest.image.ready-sent"),
    "home": ("deputy.home.recalled", "guest.leave.frozen"),
    "hop": ("deputy.hop.ordered", "deputy.hop.commit-sent"),
}


def other_cases():
    return [Case(move, point, action) for move, points in OTHER_STEPS.items()
            for point in points for action in OTHER_ACTIONS]


@dataclass
class Observation:
    outcome: str = "unknown"  # stays, moved, lost, hangs
    hit: bool = False
    status: int = -1  # of mosmigrate
    words: str = ""  # of mosmigrate
    seconds: float = 0.0  # until the process ran again or had ended
    stderr: str = ""  # of the job
    left: str = ""  # what was still there afterwards
    problem: str = ""
    logs: str = ""


class FaultLab:
    """A lab whose daemons are given faults."""

    def __init__(self, nodes=3, lease=8):
        self.lab = Lab(nodes)
        self.conf = BASE.replace("= 8", f"= {lease}")
        self.faults = dict.fromkeys(self.lab.nodes)  # nothing is configured yet
        self.inits = {node: status["init"] for node, status in self.lab.status().items()}

    def root(self, node):
        return Path(f"/proc/{self.inits[node]}/root")

    def log(self, node):
        return self.root(node) / "var/log/drover/migrated.log"

    def processes(self, node, names):
        return self.lab.processes(node, names)

    def answers(self, node):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(str(self.root(node) / "run/drover/migrated.sock"))
                return True
            except OSError:
                return False

    def stop_daemon(self, node):
        for pid, _ in self.processes(node, ("migrated",)):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.answers(node), what="migrated is gone")

    def prepare(self, faults):
        """Every node's daemon runs, with its fault or with none; logs are empty."""
        for node in self.lab.nodes:
            wanted = faults.get(node, "")
            if wanted != self.faults[node] or not self.answers(node):
                self.stop_daemon(node)
                (self.root(node) / "etc/drover/drover.conf").write_text(
                    self.conf.format(node) + (f"fault = {wanted}\n" if wanted else ""))
                self.lab.exec(node, ["sh", "-c",
                                     "migrated </dev/null >>/var/log/drover/migrated.log 2>&1 &"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                wait_until(lambda: self.answers(node), what=f"migrated on {node}")
                self.faults[node] = wanted
        for node in self.lab.nodes:
            os.truncate(self.log(node), 0)

    def where_it_runs(self):
        """Home or the one node where the process can run; never is it two.

        At home it is when nobody traces it; a body that waits for its commit, or for its end, is
        stopped (t); one that is being killed is awake, but does not run any more."""
        def places():
            found = [node for node in self.lab.nodes[1:]
                     for pid, _ in self.processes(node, ("numbers",))
                     if self.state(pid)[0] != "t" and not self.dying(pid)]
            return found + ["home" for pid, _ in self.processes("n1", ("numbers",))
                            if self.state(pid)[1] == "0"]
        # In a call's stop it is nowhere for a moment; in two places it is never.
        wait_until(places, timeout=10, what="a place where it runs")
        seen = set()
        for _ in range(5):
            now = places()
            assert len(now) < 2, f"it runs in two places: {now}"
            seen.update(now)
        assert len(seen) == 1, f"it runs here and there: {seen}"
        return seen.pop()

    @staticmethod
    def state(pid):
        """The state letter of a process and its tracer, or ended."""
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return "Z", "-"
        return (re.search(r"^State:\s+(\S)", text, re.M)[1],
                re.search(r"^TracerPid:\s+(\d+)", text, re.M)[1])

    @staticmethod
    def dying(pid):
        """Whether SIGKILL is pending or has been taken up (PF_EXITING, PF_SIGNALED)."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            flags = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[6])
        except OSError:
            return True
        pending = [int(mask, 16) for mask in re.findall(r"^S\w+Pnd:\s+(\w+)", status, re.M)]
        return bool(flags & 0x404) or any(mask & 1 << signal.SIGKILL - 1 for mask in pending)

    def leftovers(self):
        return [f"{node}: {name}" for node in self.lab.nodes
                for _, name in self.processes(node, ("deputy", "guest", "numbers"))]


def observe(fault_lab, case):
    """Runs a case; the process itself checks, line by line, that there is one of it."""
    seen = Observation()
    lab = fault_lab.lab
    fault_lab.prepare({case.node: case.fault})
    job = NumberedJob(lab, every_ms=5)
    log = fault_lab.log(case.node)
    hit = f"fault point {case.point}: "
    try:
        job.progress(5)
        for node in case.before:
            job.migrate(node)
            job.progress(5)
        began = time.monotonic()
        mover = lab.popen("n1", ["mosmigrate", job.pid, case.target])
        if case.action not in ("fail", "kill"):
            wait_until(lambda: hit in log.read_text(), what=hit, timeout=15)
            seen.hit = True
            if case.action == "cut":
                lab.cut(*case.links)
            else:
                OTHER_ACTIONS[case.action](fault_lab, case)
        seen.outcome = settle(job, mover, began)
        seen.seconds = time.monotonic() - began
        try:
            _, seen.words = mover.communicate(timeout=PATIENCE)
            seen.status = mover.returncode
        except subprocess.TimeoutExpired:
            seen.problem = "mosmigrate hangs"
        if seen.outcome == "runs":
            where = fault_lab.where_it_runs()
            seen.outcome = {case.target: "moved", case.source: "stays"}.get(where, "on " + where)
            job.progress(5, timeout=PATIENCE)
            job.finish()
        if seen.outcome == "lost":
            wait_until(lambda: names_node(job.error, job.pid) or time.monotonic() > began + 12,
                       timeout=15, what="")
        job.join()
        if seen.outcome == "lost" and job.process.returncode != 128 + signal.SIGKILL:
            seen.problem = f"it ended with {job.process.returncode}"
    except (AssertionError, TimeoutError, RuntimeError, subprocess.TimeoutExpired) as problem:
        seen.problem = f"{type(problem).__name__}: {problem}"
    finally:
        seen.hit = seen.hit or hit in log.read_text()
        seen.stderr = job.error
        heal(fault_lab, case)
    return clean_up(fault_lab, job, seen, case.action == "node killed")


def heal(fault_lab, case):
    if case.action == "cut":
        fault_lab.lab.heal()
    elif case.action in ("cut up", "cut down"):
        for node in fault_lab.lab.nodes:
            fault_lab.lab.exec(node, ["ip", "neigh", "flush", "all", "nud", "permanent"])
    elif case.action == "node killed":
        fault_lab.lab.start(remote(case))


def settle(job, mover, began):
    """Waits until the move has ended and the process runs, or until it has ended."""
    while time.monotonic() < began + PATIENCE:
        if not job.alive():
            return "lost"
        if mover.poll() is not None:
            lines = job.lines.count
            while time.monotonic() < began + PATIENCE and job.alive():
                if job.lines.count >= lines + 10 or job.problem:
                    return "runs"
                time.sleep(0.02)
        time.sleep(0.02)
    return "hangs" if job.alive() else "lost"


def clean_up(fault_lab, job, seen, new_lab):
    try:
        wait_until(lambda: not fault_lab.leftovers(), timeout=35, what="nothing left")
    except TimeoutError:
        seen.left = ", ".join(fault_lab.leftovers())
    seen.logs = fault_lab.lab.daemon_logs()
    if new_lab or seen.left or seen.problem or seen.outcome == "hangs":
        # What else is wrong with it is not to be the next case's.
        fault_lab.lab.down()
        fault_lab.lab = None
    return seen


class Bench:
    """Runs cases side by side, each in a lab that no other case is using."""

    def __init__(self, cases, width=8):
        self._labs = queue.SimpleQueue()
        for _ in range(width):
            self._labs.put(None)
        self._pool = ThreadPoolExecutor(width)
        # Those that wait longest first.
        order = sorted(cases, key=lambda case: case.action != "cut")
        self._runs = {case: self._pool.submit(self._run, case) for case in order}

    def _run(self, case):
        fault_lab = self._labs.get()
        try:
            fault_lab = fault_lab or FaultLab()
            return observe(fault_lab, case)
        finally:
            self._labs.put(fault_lab if fault_lab and fault_lab.lab else None)

    def result(self, case):
        return self._runs[case].result()

    def close(self):
        for run in self._runs.values():
            run.cancel()
        self._pool.shutdown()
        while not self._labs.empty():
            fault_lab = self._labs.get()
            if fault_lab:
                fault_lab.lab.down()


def names_node(text, pid):
    """Whether a line of the job's stderr says that it was lost, and of which node."""
    return re.search(rf"^drover: {pid}: .*\bn[123]\b", text, re.M)

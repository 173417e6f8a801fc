"""What there is on the nodes of a soak's lab: where processes run, and what has been left."""

import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fault_cases import FaultLab
from lab import wait_until

RECORDS = "run/drover/records"
# A node's cache of contents is on a disk that can be filled.
SMALL_DISK = """
uid=$(id -u drover) && mkdir -p /var/small /var/cache/drover &&
mount -t tmpfs -o size=96m small /var/small && mkdir /var/small/cache &&
chown $uid /var/small/cache && chmod 700 /var/small/cache &&
mount --bind /var/small/cache /var/cache/drover
"""
FILL_DISK = "dd if=/dev/zero of=/var/small/fill bs=1M 2>/dev/null; " \
            "dd if=/dev/zero of=/var/small/rest bs=1 2>/dev/null; true"
CLEAR_DISK = "rm -f /var/small/fill /var/small/rest"
SETTLED = ("home", "away")

# How much more of something there may be than in the first two measurements.
TOLERANCE = {"fds": 4, "rss_kb": 4096, "vm_kb": 1024}


@dataclass
class Seen:
    """A process of the lab as the machine sees it."""

    pid: int
    node: str
    name: str
    inner: list  # its pids, from the node's namespace inwards
    cgroups: str


class World(FaultLab):
    """The lab, with leases as long as they are by default, and disks that can be filled."""

    def __init__(self):
        super().__init__()
        self.measurements = []
        try:
            for node in self.lab.nodes:
                self.stop_daemon(node)
                self.give_small_disk(node)
                self.lab.start_daemon(node)
        except BaseException:
            self.lab.down()
            raise

    def give_small_disk(self, node):
        self.lab.exec(node, ["sh", "-c", SMALL_DISK])

    def kill_node(self, node):
        self.lab.kill(node)

    def start_node(self, node):
        self.lab.start(node)
        self.inits = {name: status["init"] for name, status in self.lab.status().items()}
        wait_until(lambda: self.answers(node), what=f"migrated of {node} answers")
        # As it was before, for which it has to stop once.
        self.stop_daemon(node)
        self.give_small_disk(node)
        self.lab.start_daemon(node)

    def jobs(self):
        """{pid: what mosps says of a job}"""
        return {job["pid"]: job for job in json.loads(self.lab.out("n1", ["mosps", "--json"]))}

    def guests(self, node):
        return json.loads(self.lab.out(node, ["mosps", "--guests", "--json"]))

    def look(self):
        """All processes of the nodes that live."""
        found = []
        mark = re.compile(rf"/moslab-{re.escape(self.lab.name)}/(n\d)(?=[/\n])")
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                cgroups = (directory / "cgroup").read_text()
                at = mark.search(cgroups)
                if not at:
                    continue
                status = (directory / "status").read_text(errors="replace")
            except OSError:
                continue  # it ended while we looked
            if re.search(r"^State:\s+[ZX]", status, re.M):
                continue
            inner = [int(pid) for pid in re.search(r"^NSpid:\s+(.*)", status, re.M)[1].split()][1:]
            found.append(Seen(int(directory.name), at[1], re.search(r"^Name:\t(.*)", status)[1],
                              inner, cgroups))
        return found

    def process_at_home(self, pid):
        """What the machine calls the process `pid` of n1."""
        for seen in self.look():
            if seen.node == "n1" and seen.inner == [pid]:
                return seen.pid
        return None

    def guest_programs(self, identity):
        """The supervisors of a job's bodies."""
        return [seen.pid for seen in self.look()
                if seen.name == "guest" and len(seen.inner) == 1
                and f"/n1-{identity}-" in seen.cgroups]

    def places_of(self, pid, identity):
        """Where the job can run now: at home if nobody traces it, elsewhere if it is awake."""
        found = []
        for seen in self.look():
            if seen.node == "n1" and seen.inner == [pid]:
                if self.state(seen.pid)[1] == "0":
                    found.append("n1")
            elif f"/n1-{identity}-" in seen.cgroups and seen.name != "guest":
                if self.state(seen.pid)[0] not in "tZ" and not self.dying(seen.pid):
                    found.append(seen.node)
        return found

    def place_of(self, pid, identity):
        """The one place; AssertionError if there are two, TimeoutError if there is none."""
        wait_until(lambda: self.places_of(pid, identity), timeout=15, what=f"a place of {pid}")
        seen = set()
        for _ in range(3):
            now = self.places_of(pid, identity)
            assert len(now) < 2, f"{pid} runs in two places: {now}"
            seen.update(now)
        assert len(seen) < 2, f"{pid} runs here and there: {seen}"
        return seen.pop() if seen else self.place_of(pid, identity)

    def records(self, node, what):
        return [name for name in os.listdir(self.root(node) / RECORDS / what) if name != "boot"]

    def wrong(self):
        """What does not fit together while nothing is under way: should be empty."""
        found = []
        jobs = self.jobs()
        found += [f"{pid} is {job['state']}" for pid, job in jobs.items()
                  if job["state"] not in SETTLED]
        expected = Counter(job["where"] for job in jobs.values() if job["state"] == "away")
        names = Counter((seen.node, seen.name) for seen in self.look() if len(seen.inner) == 1)
        counts = [("n1", "deputies", names["n1", "deputy"], sum(expected.values())),
                  ("n1", "records of jobs", len(self.records("n1", "jobs")), len(jobs))]
        for node in self.lab.nodes:
            counts += [(node, "guests", names[node, "guest"], expected[node]),
                       (node, "places", len(self.guests(node)), expected[node]),
                       (node, "records of guests", len(self.records(node, "guests")),
                        expected[node]),
                       (node, "migrated", names[node, "migrated"], 1),
                       (node, "groups of guests", self.guest_groups(node), expected[node])]
        return found + [f"{node}: {count} {what}, not {due}" for node, what, count, due in counts
                        if count != due]

    def guest_groups(self, node):
        """Of one hierarchy; others have them alike."""
        found = {}
        for top in self.groups(node):
            if "/drover-guests/" in top:
                hierarchy = top.split(f"/moslab-{self.lab.name}/")[0]
                found[hierarchy] = found.get(hierarchy, 0) + 1
        return max(found.values(), default=0)

    def groups(self, node):
        mark = f"/moslab-{self.lab.name}/{node}"
        return [top for top, _, _ in os.walk("/sys/fs/cgroup") if mark in top]

    def measure(self, moves, pids):
        """Notes what could leak. All jobs are at home, and nothing is under way; `pids` are
        theirs, by the jobs' identities: a pid comes again when a node was rebooted."""
        figures = {}
        for seen in self.look():
            key = f"{seen.node} processes"
            figures[key] = figures.get(key, 0) + 1
            if len(seen.inner) == 1 and seen.name in ("migrated", "contentd"):
                self._measure_program(figures, f"{seen.node} {seen.name}", seen.pid)
        for node in self.lab.nodes:
            figures[f"{node} cgroups"] = len(self.groups(node))
            figures[f"{node} mounts"] = len(
                Path(f"/proc/{self.inits[node]}/mountinfo").read_text().splitlines())
            figures[f"{node} places"] = len(self.guests(node))
            for what in ("jobs", "guests"):
                figures[f"{node} records of {what}"] = len(self.records(node, what))
        figures["namespaces"] = len(self.namespaces())
        processes = {}
        for identity, pid in pids.items():
            host = self.process_at_home(pid)
            processes[identity] = {
                "maps": len(Path(f"/proc/{host}/maps").read_text().splitlines()),
                "fds": len(os.listdir(f"/proc/{host}/fd")),
                "vm_kb": status_kb(host, "VmSize")}
        self.measurements.append({"moves": moves, "figures": figures, "jobs": processes})
        return self._grown()

    @staticmethod
    def _measure_program(figures, name, pid):
        figures[f"{name} fds"] = len(os.listdir(f"/proc/{pid}/fd"))
        figures[f"{name} threads"] = len(os.listdir(f"/proc/{pid}/task"))
        figures[f"{name} rss_kb"] = status_kb(pid, "VmRSS")

    def namespaces(self):
        found = set()
        for seen in self.look():
            for kind in ("mnt", "pid", "net", "user", "uts", "ipc", "cgroup"):
                try:
                    found.add(os.readlink(f"/proc/{seen.pid}/ns/{kind}"))
                except OSError:
                    pass  # it ended while we looked
        return found

    def _grown(self):
        """What there is more of than in the first two measurements, in words."""
        *_, now = self.measurements
        before = self.measurements[:-1]
        found = []
        for name, value in now["figures"].items():
            # A program may have had no cause to run yet.
            known = [one["figures"][name] for one in before if name in one["figures"]]
            base = max(known[:2], default=value)
            if len(known) >= 2 and value > base + TOLERANCE.get(name.split()[-1], 0):
                found.append(f"{name}: {value}, was {base}")
        for identity, figures in now["jobs"].items():
            first = next((one["jobs"][identity] for one in before if identity in one["jobs"]),
                         figures)
            found += [f"process of job {identity} at home: {name}: {value}, was {first[name]}"
                      for name, value in figures.items()
                      if value > first[name] + TOLERANCE.get(name, 0) + (name == "maps")]
        return found


def status_kb(pid, name):
    return int(re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])


def wait_quietly(condition, timeout, every=0.2):
    """Whether the condition became true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True

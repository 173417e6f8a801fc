"""A process that is away makes threads: what its home, or the node that it is on, has against it."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from lab import wait_until
from numbered_job import NumberedJob, Sequence

USER = 1000


class Refusals(Sequence):
    """Counts the lines that say that no thread was to be had."""

    def __init__(self):
        super().__init__()
        self.refused = 0

    def take(self, line):
        if line == "refused\n":
            self.refused += 1
        else:
            super().take(line)


@pytest.fixture
def job(lab):
    made = lab(2)
    job = NumberedJob(made, user=USER, program="spawner", lines=Refusals())
    job.progress()
    return job


def process_group(job, node):
    """The pids cgroup of what runs of it on the node: P at home, the body elsewhere."""
    mark = f"moslab-{job.lab.name}/{node}/"

    def of_process(pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as comm, \
                    open(f"/proc/{pid}/cgroup", encoding="utf-8") as cgroup:
                groups = [line.rstrip("\n").split(":", 2) for line in cgroup]
                if comm.read() != "spawner\n" or not any(mark in path for *_, path in groups):
                    return None
        except OSError:
            return None
        for _, controllers, path in groups:
            if controllers in ("pids", ""):
                return Path("/sys/fs/cgroup") / controllers / path.lstrip("/")
        return None
    found = wait_until(lambda: [group for pid in os.listdir("/proc") if pid.isdigit()
                                and (group := of_process(pid))], what=f"the job on {node}")
    return found[0]


@contextlib.contextmanager
def no_more_threads(job, node):
    """As long as this lasts, nothing on that node can make a thread or a process."""
    limit = process_group(job, node) / "pids.max"
    limit.write_text("1", encoding="ascii")
    yield
    limit.write_text("max", encoding="ascii")


def told_of(job):
    return next(one for one in json.loads(job.lab.out("n1", ["mosps", "--json"]))
                if one["pid"] == job.pid)


def made_away(job):
    return told_of(job)["calls"].get("clone3", {}).get("served", 0)


def test_it_stays_away(job):
    job.migrate("n2")
    job.progress(lines=300)
    wait_until(lambda: made_away(job) >= 300, what="their being told of")
    told = told_of(job)
    assert told["where"] == "n2"
    assert told["calls"]["clone3"]["forced_home"] == 0
    job.finish()
    assert job.lines.refused == 0


def test_a_limit_at_home_is_the_programs(job):
    job.migrate("n2")
    job.progress()
    with no_more_threads(job, "n1"):
        wait_until(lambda: job.lines.refused == 1, what="a refusal")
    job.progress()
    assert told_of(job)["where"] == "n2"
    job.finish()
    assert job.lines.refused == 1


def test_a_node_that_cannot_make_one_sends_it_home(job):
    job.migrate("n2")
    with no_more_threads(job, "n2"):
        wait_until(lambda: told_of(job)["where"] == "n1", what="its coming home")
    job.progress()
    job.migrate("n2")
    job.progress()
    assert told_of(job)["where"] == "n2"
    job.finish()
    assert job.lines.refused == 0

"""A job whose node falls silent is held until its lease ends, or ends at once, as its owner chose."""

import json
import signal
import time

import pytest

from fault_cases import FaultLab, deafen, names_node
from lab import wait_until
from numbered_job import NumberedJob

NOTICED = 8.0  # seconds: kLease of migrate/lease.h
SLACK = 3.0
LEASE = 14  # lease-seconds in the tests that wait for its end


@pytest.fixture(scope="module")
def default_lab(module_lab):
    return module_lab(3)


@pytest.fixture
def short_lab():
    """Its leases end while a test can wait for it."""
    made = FaultLab(lease=LEASE)
    made.prepare({})
    yield made
    made.lab.down()


def shown(lab, pid):
    jobs = json.loads(lab.out("n1", ["mosps", "--json"]))
    return next(job for job in jobs if job["pid"] == pid)


def wait_for_state(lab, pid, state, timeout):
    wait_until(lambda: shown(lab, pid)["state"] == state, timeout=timeout,
               what=f"{pid} is {state}")


WRITER = """
import os, sys, time
print(os.getpid(), flush=True)
with open(sys.argv[1], "wb", buffering=0) as out:
    until, count = time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < until:
        count += 1
        out.seek(0)
        assert out.write(bytes([count % 256]) * (4 << 20)) == 4 << 20
print(count)
"""


class Writer:
    """Writes four mebibytes at a time, so that a cut comes in the midst of them."""

    def __init__(self, lab, path, seconds):
        self.lab, self.path = lab, path
        self.job = lab.popen("n1", ["mosrun", "/usr/bin/python3", "-c", WRITER, path, str(seconds)])
        self.pid = int(self.job.stdout.readline())

    def check(self):
        out, error = self.job.communicate(timeout=60)
        assert self.job.returncode == 0, error
        last = int(out) % 256
        found = self.lab.out("n1", ["sh", "-c", f"od -An -v -tu1 -w1 {self.path} | sort | uniq -c"])
        assert found.split() == [str(4 << 20), str(last)]


def test_a_job_on_a_node_that_is_heard_again_goes_on(default_lab):
    lab = default_lab
    held, ended = NumberedJob(lab), NumberedJob(lab, options=["--on-loss=kill"])
    writer = Writer(lab, "/root/written", 25)
    for pid in (held.pid, ended.pid, writer.pid):
        lab.exec("n1", ["mosmigrate", pid, "n2"])
    held.progress(10)
    lab.cut("n1", "n2")
    began = time.monotonic()

    assert ended.process.wait(timeout=NOTICED + SLACK) == 128 + signal.SIGKILL
    assert time.monotonic() - began > NOTICED - 2
    ended.join()
    assert names_node(ended.error, ended.pid)

    wait_for_state(lab, held.pid, "held", SLACK)
    why = lab.out("n1", ["mosps", "--why", held.pid])
    assert "cannot move: is held: nothing is heard of n2" in why
    for target in ("home", "n3"):
        refused = held.migrate(target, check=False)
        assert refused.returncode == 1
        assert "is held: nothing is heard of n2" in refused.stderr

    # The next migrated knows it, too.
    lab.stop_daemon("n1")
    lab.start_daemon("n1")
    wait_for_state(lab, held.pid, "held", SLACK)

    lab.heal()
    wait_for_state(lab, held.pid, "away", 20)
    held.progress(10, timeout=20)
    held.migrate("home")
    held.progress(10)
    held.finish()
    assert held.error == ""
    writer.check()


@pytest.mark.parametrize("deaf, other", [("n1", "n2"), ("n2", "n1")])
def test_one_direction_is_enough_to_be_held_for(default_lab, deaf, other):
    lab = default_lab
    job = NumberedJob(lab)
    job.migrate("n2")
    job.progress(10)
    deafen(lab, deaf, other)
    wait_for_state(lab, job.pid, "held", NOTICED + SLACK)
    lab.exec(other, ["ip", "neigh", "flush", "all", "nud", "permanent"])
    wait_for_state(lab, job.pid, "away", 20)
    job.progress(10, timeout=20)
    job.finish()
    assert job.error == ""


COMPUTES = "import os\nprint(os.getpid(), flush=True)\nwhile True: pass"


@pytest.mark.parametrize("targets", [["n2"], ["n2", "n3"]], ids="-".join)
def test_a_job_that_has_only_just_come_has_its_lease_too(default_lab, targets):
    """Also one that asks nothing of its home: that speaks first."""
    lab = default_lab
    job = lab.popen("n1", ["mosrun", "/usr/bin/python3", "-c", COMPUTES])
    pid = int(job.stdout.readline())
    for target in targets:
        lab.exec("n1", ["mosmigrate", pid, target])
    lab.cut("n1", targets[-1])
    wait_for_state(lab, pid, "held", NOTICED + SLACK)
    time.sleep(2)  # its node has noticed as well
    lab.heal()
    wait_for_state(lab, pid, "away", 25)
    lab.exec("n1", ["mosmigrate", pid, "home"])
    lab.exec("n1", ["kill", pid])
    assert job.wait(timeout=10) == 128 + signal.SIGTERM


def test_both_ends_keep_to_the_same_lease(short_lab):
    lab = short_lab.lab
    job = NumberedJob(lab)
    job.migrate("n2")
    time.sleep(2)
    lab.cut("n1", "n2")
    began = time.monotonic()
    wait_until(lambda: not short_lab.processes("n2", ("numbers",)), timeout=LEASE + SLACK,
               what="the body has ended")
    assert time.monotonic() - began > LEASE - 2
    assert job.process.wait(timeout=SLACK) == 128 + signal.SIGKILL
    assert LEASE - 2 < time.monotonic() - began < LEASE + SLACK
    job.join()
    assert names_node(job.error, job.pid)
    lab.heal()


def test_what_takes_a_held_process_home_does_so_when_its_node_is_heard_again(short_lab):
    lab = short_lab.lab
    job = NumberedJob(lab)
    job.migrate("n2")
    job.progress(10)
    lab.cut("n1", "n2")
    wait_for_state(lab, job.pid, "held", NOTICED + SLACK)
    # It dies of this at home, for its memory is to be in its core.
    lab.exec("n1", ["prlimit", f"--pid={job.pid}", "--core=unlimited"])
    lab.exec("n1", ["kill", "-QUIT", job.pid])
    time.sleep(1)
    assert job.alive()
    lab.heal()
    assert job.process.wait(timeout=20) == 128 + signal.SIGQUIT
    job.join()
    assert "moved from n2 to n1, frozen" in lab.daemon_logs()
    assert job.error == ""


def test_an_unknown_choice_is_a_usage_error(default_lab):
    wrong = default_lab.exec("n1", ["mosrun", "--on-loss=pray", "true"], check=False)
    assert wrong.returncode == 2
    assert wrong.stderr == "mosrun: --on-loss: hold or kill, not pray\n"

"""A body that hears nothing of its home ends by itself, before home counts it as ended."""

import json
import os
import signal
import subprocess
import time

import pytest

from fault_cases import FaultLab, names_node
from lab import wait_until
from numbered_job import NumberedJob

LEASE = 8.0  # seconds: kLease of migrate/guest.h
MARGIN = 1.0  # what home waits longer: kMargin of migrate/lease.h
HEARTBEAT = 1.0


@pytest.fixture
def fault_lab():
    made = FaultLab()
    made.prepare({})
    yield made
    made.lab.down()


def end_of_body(fault_lab, name):
    """The seconds until the body ends, from when its home falls silent."""
    (deputy, _), = fault_lab.processes("n1", ("deputy",))
    os.kill(deputy, signal.SIGSTOP)
    silent = time.monotonic()
    wait_until(lambda: not fault_lab.processes("n2", (name,)), timeout=LEASE + 5 * MARGIN,
               what="the body has ended")
    took = time.monotonic() - silent
    os.kill(deputy, signal.SIGCONT)
    return took


def check(took):
    assert LEASE - 2 * HEARTBEAT < took < LEASE + MARGIN


def test_a_body_that_waits_for_a_call_ends_with_its_lease(fault_lab):
    job = NumberedJob(fault_lab.lab)
    job.migrate("n2")
    job.progress(10)
    check(end_of_body(fault_lab, "numbers"))
    assert job.process.wait(timeout=10) == 128 + signal.SIGKILL
    job.join()
    assert names_node(job.error, job.pid)


def cpu_away(lab, pid):
    """The seconds of CPU time of a job's body, as its home has heard of them."""
    jobs = json.loads(lab.out("n1", ["mosps", "--json"]))
    return next(job["cpu_away_s"] for job in jobs if job["pid"] == pid)


def test_a_body_that_computes_ends_with_its_lease(fault_lab):
    lab = fault_lab.lab
    job = lab.popen("n1", ["mosrun", "sh", "-c", "echo $$; while :; do :; done"])
    pid = job.stdout.readline().strip()
    lab.exec("n1", ["mosmigrate", pid, "n2"])
    wait_until(lambda: cpu_away(lab, int(pid)) > 0, what="home hears that it computes")
    body = next(name for _, name in fault_lab.processes("n2", ("sh", "dash", "bash")))
    check(end_of_body(fault_lab, body))
    _, error = job.communicate(timeout=10)
    assert job.returncode == 128 + signal.SIGKILL
    assert names_node(error, pid)


def test_a_process_whose_guest_does_not_send_its_image_can_be_killed(fault_lab):
    fault_lab.prepare({"n2": "guest.leave.frozen:delay=15000"})
    lab = fault_lab.lab
    job = NumberedJob(lab)
    job.migrate("n2")
    mover = lab.popen("n1", ["mosmigrate", job.pid, "home"])
    wait_until(lambda: "guest.leave.frozen: " in fault_lab.log("n2").read_text(), what="the step")
    lab.exec("n1", ["kill", "-KILL", job.pid])
    assert job.process.wait(timeout=4) == 128 + signal.SIGKILL
    mover.communicate(timeout=4)
    job.join()
    assert job.error == ""


@pytest.mark.slow
def test_a_hop_that_takes_longer_than_a_lease_is_no_loss(lab):
    """On a slow link the contents of its files alone take longer."""
    made = lab(3, rate=6)
    program = "import os\nprint(os.getpid(), flush=True)\nwhile True: print(input(), flush=True)"
    job = made.popen("n1", ["mosrun", "/usr/bin/python3", "-c", program], stdin=subprocess.PIPE,
                     bufsize=1)
    pid = job.stdout.readline().strip()
    for target in ("n2", "n3", "home"):
        began = time.monotonic()
        made.exec("n1", ["mosmigrate", pid, target], timeout=120)
        if target == "n3":
            assert time.monotonic() - began > LEASE
        job.stdin.write(f"{target}\n")
        assert job.stdout.readline() == f"{target}\n"
    _, error = job.communicate(timeout=10)
    assert "EOFError" in error and "drover" not in error

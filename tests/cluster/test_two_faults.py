"""Something goes wrong after, or beside, something else that does.

The model of tests/model knows these runs as mutations; see docs/protocol.md.
"""

import signal
import time

import pytest

from fault_cases import FaultLab
from lab import wait_until
from numbered_job import NumberedJob

LEASE = 8.0  # seconds: kLease of migrate/guest.h
MARGIN = 1.0  # what home waits longer: kMargin of migrate/lease.h


@pytest.fixture
def fault_lab():
    made = FaultLab()
    made.prepare({})
    yield made
    made.lab.down()


def wait_for_step(fault_lab, node, point):
    wait_until(lambda: f"fault point {point}: " in fault_lab.log(node).read_text(), what=point,
               timeout=20)


def test_a_body_whose_lease_is_over_before_it_runs_never_runs(fault_lab):
    late = int(1000 * (LEASE + 2 * MARGIN))
    fault_lab.prepare({"n2": f"guest.image.committed:delay={late},"
                             "guest.image.running:delay=3000"})
    job = NumberedJob(fault_lab.lab, every_ms=5)
    job.progress(5)
    mover = fault_lab.lab.popen("n1", ["mosmigrate", job.pid, "n2"])
    wait_for_step(fault_lab, "n2", "guest.image.committed")
    stepped = time.monotonic()
    _, words = mover.communicate(timeout=LEASE + 5 * MARGIN)
    assert mover.returncode == 1, words
    while time.monotonic() < stepped + late / 1000 + 2:
        assert fault_lab.where_it_runs() == "home"
        job.progress(5)
    assert "guest.image.running" not in fault_lab.log("n2").read_text()
    job.finish()


def test_a_failed_move_after_a_hop_whose_source_was_not_heard_is_no_move(fault_lab):
    fault_lab.prepare({"n1": "deputy.home.call-settled:fail",
                       "n2": "guest.leave.connected:delay=1200"})
    lab = fault_lab.lab
    job = NumberedJob(lab, every_ms=5)
    job.migrate("n2")
    job.progress(5)
    mover = lab.popen("n1", ["mosmigrate", job.pid, "n3"])
    wait_for_step(fault_lab, "n2", "guest.leave.connected")
    lab.cut("n1", "n2")
    _, words = mover.communicate(timeout=20)
    assert mover.returncode == 0, words
    job.progress(5)
    failed = job.migrate("home", check=False)
    assert "deputy.home.call-settled" in failed.stderr
    until = time.monotonic() + LEASE + 2 * MARGIN
    while time.monotonic() < until:
        job.progress(5)
    assert fault_lab.where_it_runs() == "n3"
    job.finish()


LATE_HANDLER = """
import os, signal, sys, time
print(os.getpid(), flush=True)
while time.time() < float(sys.argv[1]): pass
signal.signal(signal.SIGUSR1, lambda *_: (print("handled", flush=True), os._exit(0)))
while True: pass
"""


def test_what_a_source_says_of_the_program_before_it_leaves_is_not_lost(fault_lab):
    """A signal's action is home's to know: that of one with a handler would kill the process."""
    fault_lab.prepare({"n1": "deputy.hop.connected:delay=2000,deputy.hop.ordered:delay=1500"})
    lab = fault_lab.lab
    handled_from = time.time() + 6
    job = lab.popen("n1", ["mosrun", "/usr/bin/python3", "-c", LATE_HANDLER, str(handled_from)])
    pid = job.stdout.readline().strip()
    lab.exec("n1", ["mosmigrate", pid, "n2"])
    assert time.time() < handled_from - 1
    time.sleep(handled_from - 0.7 - time.time())
    # The deputy does not listen when the handler is made, and hears of the target first.
    lab.exec("n1", ["mosmigrate", pid, "n3"])
    lab.exec("n1", ["kill", "-USR1", pid])
    assert job.stdout.readline() == "handled\n"
    assert job.wait(timeout=10) == 0


def test_a_target_that_fails_before_the_source_is_heard_is_heard_itself(fault_lab):
    """Had its last word been missed, home would wait for a lease's end."""
    fault_lab.prepare({"n1": "deputy.hop.ordered:delay=1500", "n3": "guest.image.ready-sent:fail"})
    lab = fault_lab.lab
    # It says nothing: the source's answer is the first of its frames.
    job = lab.popen("n1", ["mosrun", "sh", "-c", "echo $$; while :; do :; done"])
    pid = job.stdout.readline().strip()
    lab.exec("n1", ["mosmigrate", pid, "n2"])
    failed = lab.exec("n1", ["mosmigrate", pid, "n3"], check=False)
    assert "made to fail at guest.image.ready-sent" in failed.stderr
    lab.exec("n1", ["kill", pid])
    assert job.wait(timeout=10) == 128 + signal.SIGTERM


def test_a_guest_that_fails_when_its_body_runs_already_is_asked_why(fault_lab):
    fault_lab.prepare({"n2": "guest.image.running:fail"})
    job = NumberedJob(fault_lab.lab, every_ms=5)
    job.progress(5)
    job.migrate("n2", check=False)
    job.process.wait(timeout=10)
    job.join()
    assert "made to fail at guest.image.running" in job.error


def test_a_process_whose_body_is_not_built_can_be_killed(fault_lab):
    fault_lab.prepare({"n2": "guest.image.loaded:delay=15000"})
    job = NumberedJob(fault_lab.lab, every_ms=5)
    job.progress(5)
    mover = fault_lab.lab.popen("n1", ["mosmigrate", job.pid, "n2"])
    wait_for_step(fault_lab, "n2", "guest.image.loaded")
    fault_lab.lab.exec("n1", ["kill", "-KILL", job.pid])
    assert job.process.wait(timeout=4) == 128 + signal.SIGKILL
    _, words = mover.communicate(timeout=4)
    assert words.endswith("the process has ended\n")
    job.join()
    assert job.error == ""

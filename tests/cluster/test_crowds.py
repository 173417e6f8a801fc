"""Processes of many threads: they end together, make one another, and wait for one another."""

import itertools
import os
import signal
import time

import pytest

from crowd import Crowd
from fault_cases import FaultLab, deafen
from lab import wait_until

CROWD = "64"


@pytest.fixture
def fault_lab():
    made = FaultLab()
    made.prepare({})
    yield made
    made.lab.down()


@pytest.fixture(scope="module")
def three(module_lab):
    return module_lab(3)


@pytest.mark.parametrize("time", range(6))
def test_exec_away_ends_the_other_threads(three, time):
    job = Crowd(three, "exec", CROWD)
    job.migrate("n2")
    job.signal("USR1")
    assert job.end() == 7, job.error
    assert (job.lines, job.error) == (["exec"], "")


def test_a_fault_away_ends_all_as_at_home(three):
    job = Crowd(three, "fault", CROWD)
    job.migrate("n2")
    job.signal("USR1")
    assert job.end() in (-signal.SIGSEGV, 128 + signal.SIGSEGV), job.error
    assert (job.lines, job.error) == ([], "")


def test_threads_that_make_one_another_are_all_held(three):
    """One that the move overlooked would run on at home without its memory."""
    job = Crowd(three, "chain")
    for target in itertools.islice(itertools.cycle(["n2", "home"]), 40):
        job.migrate(target)
        before = len(job.lines)
        wait_until(lambda: len(job.lines) > before + 1 or job.process.poll() is not None,
                   what="lines after a move")
        assert job.process.poll() is None, job.error
    links = [int(line.split()[1]) for line in job.lines]
    assert links == sorted(links) and links[-1] > links[len(links) // 2]
    job.signal("KILL")
    job.end()


def test_a_signal_that_crosses_the_end_of_its_thread_is_anothers(three):
    job = Crowd(three, "raw")
    job.migrate("n2")
    job.signal("USR1")
    time.sleep(0.1)
    deputy = three.out("n1", ["pgrep", "-x", "deputy"])
    three.exec("n1", ["kill", "-STOP", deputy])
    time.sleep(0.8)
    job.signal("RTMIN+3")
    three.exec("n1", ["kill", "-CONT", deputy])
    time.sleep(0.3)
    job.signal("USR1")
    assert job.end() == 0, job.error
    assert (job.lines, job.error) == (["got 1"], "")


def test_the_end_of_a_thread_that_a_hop_has_lost_is_told_again(fault_lab):
    fault_lab.prepare({"n1": "deputy.hop.connected:delay=2500"})
    lab = fault_lab.lab
    began = time.monotonic()
    job = Crowd(lab, "leave", "5000", user=None)
    job.migrate("n2")
    time.sleep(max(0.0, began + 3.5 - time.monotonic()))
    mover = lab.popen("n1", ["mosmigrate", job.pid, "n3"])
    wait_until(lambda: "fault point deputy.hop.connected: " in fault_lab.log("n1").read_text(),
               what="the hop", timeout=5)
    deafen(lab, "n1", "n2")
    assert mover.wait(timeout=40) == 0
    wait_until(lambda: len(os.listdir(fault_lab.root("n1") / f"proc/{job.pid}/task")) == 1,
               what="the end of P's thread")
    job.migrate("home")
    job.signal("USR1")
    assert job.end() == 0, job.error


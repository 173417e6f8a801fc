"""A process that is away is stopped by a signal and goes on, and its parent and its body know."""

import os
import random
import signal
import threading
import time

import pytest

from kept_job import KeptJob
from lab import wait_until
from test_threads import Progress

STOPS = [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU]


@pytest.fixture(scope="module")
def made(module_lab):
    return module_lab(3)


def crew(lab):
    """Of sixteen threads and more."""
    return KeptJob(lab, "hammer", every_ms=20, user=1000, lines=Progress())


def maker(lab):
    """It makes threads all the time."""
    return KeptJob(lab, "spawner", user=1000)


def alone(lab):
    return KeptJob(lab, user=1000)


PROGRAMS = [pytest.param(program, id=program.__name__) for program in (alone, crew, maker)]


def assert_stopped(job):
    job.await_standstill()
    wait_until(lambda: job.told()["state"] == "stopped", what="mosps says that it is stopped")


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_parent_is_told_and_nothing_of_it_runs(made, program):
    job = program(made)
    job.migrate("n2")
    for number in STOPS:
        job.progress()
        job.stop(number)
        assert_stopped(job)
        assert job.where() == "n2"
        job.go_on()
        job.progress()
        wait_until(lambda: job.told()["state"] == "away", what="mosps says that it is away")
    assert not any(call["forced_home"] for call in job.told()["calls"].values())
    assert job.told()["moves"] == 1
    job.finish()


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_moved_and_stays_stopped(made, program):
    job = program(made)
    job.stop()
    events = len(job.events)
    for target in ("n2", "n3", "home", "n3", "n2", "home"):
        job.migrate(target)
        assert_stopped(job)
        assert job.where() == ("n1" if target == "home" else target)
    assert job.events[events:] == []
    job.go_on()
    job.progress()
    for target in ("n2", "n3", "home"):
        job.migrate(target)
        job.progress()
        job.stop(signal.SIGTSTP)
        assert_stopped(job)
        job.go_on()
        job.progress()
    job.finish()


def test_what_it_was_sent_meanwhile_comes_when_it_goes_on(made):
    for moves in ([], ["n3"], ["home"], ["home", "n2"]):
        job = alone(made)
        job.migrate("n2")
        job.stop()
        job.send(signal.SIGUSR1)
        for target in moves:
            job.migrate(target)
        assert_stopped(job)
        job.go_on()
        job.await_end()


def storm(job, stop, seed):
    """Stops and continues it without end; how often."""
    chance = random.Random(seed)
    times = 0
    while not stop.is_set() and job.alive():
        job.send(chance.choice(STOPS))
        if chance.random() < 0.7:
            time.sleep(chance.choice((0, 0, 0.0001, 0.001, 0.01)))
        job.send(signal.SIGCONT)
        if chance.random() < 0.7:
            time.sleep(chance.choice((0, 0.0001, 0.001, 0.01)))
        times += 1
    return times


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_storm_of_stops_while_it_is_moved_leaves_it_as_the_last_signal_says(made, program):
    seed = int(os.environ.get("DROVER_STOP_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    chance = random.Random(seed)
    job = program(made)
    total = 0
    moves = int(os.environ.get("DROVER_STOP_MOVES", "12"))
    for i in range(moves):
        over = threading.Event()
        counts = []
        thread = threading.Thread(target=lambda: counts.append(storm(job, over, seed + i)))
        thread.start()
        try:
            job.migrate(("n2", "n3", "home")[i % 3])
        finally:
            over.set()
            thread.join()
        total += counts[0]
        job.check()
        assert job.alive(), job.events[-5:]
        if chance.random() < 0.5:
            job.send(signal.SIGSTOP)
            assert_stopped(job)
            job.send(signal.SIGCONT)
        job.progress(timeout=30)
    print("stopped", total, "times")
    job.finish()

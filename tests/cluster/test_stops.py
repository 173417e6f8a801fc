"""A process that is away is stopped by a signal and goes on, and its parent and its body know."""

import itertools
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from fault_cases import fault_points
from kept_job import KeptJob
from lab import wait_until
from numbered_job import PROGRAMS as CLUSTER_PROGRAMS
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


class Storm:
    """Stops and continues it while this lasts."""

    def __init__(self, job, seed):
        self._process = subprocess.Popen([CLUSTER_PROGRAMS / "storm", str(job.host_pid), str(seed)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.times = int(self._process.communicate(timeout=20)[0])


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_storm_of_stops_while_it_is_moved_leaves_it_as_the_last_signal_says(made, program):
    seed = int(os.environ.get("DROVER_STOP_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    chance = random.Random(seed)
    job = program(made)
    total = 0
    moves = int(os.environ.get("DROVER_STOP_MOVES", "12"))
    for i in range(moves):
        with Storm(job, seed + i) as storm:
            job.migrate(("n2", "n3", "home")[i % 3])
        total += storm.times
        job.check()
        assert job.alive(), job.events[-5:]
        if chance.random() < 0.5:
            job.send(signal.SIGSTOP)
            assert_stopped(job)
            job.send(signal.SIGCONT)
        job.progress(timeout=30)
    print("stopped", total, "times")
    job.finish()


class Steps:
    """Calls `strike` at every step of a move that the nodes of a lab log, while it is delayed."""

    def __init__(self, lab, strike):
        inits = {node: status["init"] for node, status in lab.status().items()}
        self._logs = [open(f"/proc/{init}/root/var/log/drover/migrated.log", encoding="utf-8")
                      for init in inits.values()]
        for log in self._logs:
            log.seek(0, os.SEEK_END)
        self._strike = strike
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.met = []

    def _watch(self):
        while not self._over.is_set():
            lines = [line for log in self._logs for line in log]
            for step in re.findall(r"fault point ([\w.-]+): ", "".join(lines)):
                self.met.append(step)
                self._strike(step)
            if not lines:
                time.sleep(0.001)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        for log in self._logs:
            log.close()


@pytest.fixture(scope="module")
def slow_steps(module_lab):
    return module_lab(3, conf=["fault = " + ",".join(f"{p}:delay=20" for p in fault_points())])


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("first", [0, 1])
def test_stops_and_their_ends_may_come_at_every_step(slow_steps, program, first):
    job = program(slow_steps)
    sent = itertools.count(first)

    def strike(_):
        job.send(signal.SIGCONT if next(sent) % 2 else signal.SIGTSTP)
    for target in ("n2", "n3", "home"):
        with Steps(slow_steps, strike):
            job.migrate(target)
        if next(sent) % 2:  # the last was a stop
            assert_stopped(job)
            job.send(signal.SIGCONT)
        job.progress()
    job.finish()


@pytest.mark.slow
def test_a_stop_may_come_at_any_step(slow_steps):
    """A stop at one step of a move, at another one each time, until it has come at all of them."""
    seen = set()
    job = alone(slow_steps)
    moves = 0
    for target in itertools.cycle(("n2", "n3", "home")):
        struck = []

        def strike(step, target=target, struck=struck):
            if not struck and (target, step) not in seen:
                struck.append(step)
                job.send(signal.SIGSTOP)
        with Steps(slow_steps, strike) as steps:
            job.migrate(target)
        moves += 1
        assert len(steps.met) > 5
        if struck:
            assert_stopped(job)
            seen.add((target, struck[0]))
            job.go_on()
            moves = 0
        job.progress()
        if moves == 3:
            break
    job.finish()
    missed = set(fault_points()) - {step for _, step in seen}
    assert not missed


def test_one_that_is_stopped_can_be_killed(made):
    job = crew(made)
    job.migrate("n2")
    job.stop()
    assert_stopped(job)
    job.finish(-signal.SIGKILL, signal.SIGKILL)
    wait_until(lambda: not job.bodies(), what="the end of its body")


@pytest.mark.parametrize("what", ["guest", "deputy", "body"])
def test_who_loses_a_part_of_itself_while_stopped_has_ended(made, what):
    job = alone(made)
    job.migrate("n2")
    job.stop()
    assert_stopped(job)
    pids = job.bodies() if what == "body" else \
        [pid for node in ("n1", "n2") for pid, _ in made.processes(node, (what,))]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    job.await_end(-signal.SIGKILL)
    wait_until(lambda: not job.bodies(), what="the end of its body")


@pytest.mark.slow
def test_it_is_stopped_for_longer_than_any_lease(made):
    job = KeptJob(made, options=["--on-loss=kill"])  # the shortest
    job.migrate("n2")
    job.stop()
    assert_stopped(job)
    time.sleep(10)
    assert_stopped(job)
    job.go_on()
    job.progress()
    job.finish()


@pytest.mark.parametrize("number, status", [
    pytest.param(signal.SIGUSR1, 0, id="exit"),  # it ends by itself
    pytest.param(signal.SIGTERM, -signal.SIGTERM, id="signal"),
    pytest.param(signal.SIGKILL, -signal.SIGKILL, id="kill"),
])
@pytest.mark.parametrize("program", PROGRAMS)
def test_its_end_may_cross_stops_and_moves(made, program, number, status):
    seed = int(os.environ.get("DROVER_STOP_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    chance = random.Random(seed)
    for target in ("home", "n3") * int(os.environ.get("DROVER_STOP_ENDS", "1")):
        job = program(made)
        job.migrate("n2")
        job.progress()
        with Storm(job, chance.randrange(1 << 30)):
            mover = made.popen("n1", ["mosmigrate", job.pid, target])
            time.sleep(chance.random() * 0.1)
            job.send(number)
            mover.wait(timeout=30)
        job.await_end(status)

"""Realtime signals that are sent to a process while it is moved come in order, once each.

DROVER_STRESS_MOVES says how often it is moved (default 15)."""

import itertools
import os
import random
import subprocess

import pytest

from kept_job import KeptJob
from lab import wait_until
from numbered_job import PROGRAMS
from test_threads import Progress

MOVES = int(os.environ.get("DROVER_STRESS_MOVES", "15"))


@pytest.fixture(scope="module")
def made(module_lab):
    return module_lab(3)


@pytest.mark.parametrize("how", ["handler", "blocked", "waited", "thread"])
def test_they_come_in_order_once_each(made, how):
    seed = int(os.environ.get("DROVER_SIGNAL_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    job = KeptJob(made, "rtorder", how, user=1000, lines=Progress())
    sender = subprocess.Popen([PROGRAMS / "rtsender", str(job.host_pid), str(seed)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for target in itertools.islice(itertools.cycle(["n2", "home", "n2", "n3", "home", "n3"]),
                                       MOVES):
            job.migrate(target)
            job.check()
            before = job.lines.done
            wait_until(lambda before=before: job.lines.done > before or job.problem or not job.alive(),
                       what="more of them")
    finally:
        sent = sender.communicate(timeout=20)[0]
    wait_until(lambda: job.lines.done >= int(sent) or job.problem or not job.alive(), timeout=30,
               what="all of them")
    job.check()
    assert job.lines.done == int(sent)
    job.finish()

"""Two hundred moves in a row, and nobody at home notices."""

import itertools
import random
import subprocess

import pytest

from lab import BIN
from numbered_job import NumberedJob, check_shared_file

MOVES = 200
TOUR = ["n2", "home", "n2", "n3", "home"]


def fault_points():
    return subprocess.run([BIN / "deputy", "--list-fault-points"], capture_output=True, text=True,
                          check=True).stdout.split()


def delays():
    """A delay at every step of the protocol, each of its own length."""
    chance = random.Random(2)
    return ",".join(f"{p}:delay={chance.choice([1, 2, 3, 5, 8, 20])}" for p in fault_points())


def tour(lab, user, every_ms):
    shared = "/var/tmp/shared"
    job = NumberedJob(lab, shared, user=user, every_ms=every_ms)
    for target in itertools.islice(itertools.cycle(TOUR), MOVES):
        before = job.lines.count
        job.migrate(target)
        job.check()
        # It is not only moved, it also runs wherever it is.
        job.progress(2)
        assert job.lines.count > before
    printed = job.finish()
    assert printed > MOVES
    of_child = check_shared_file(lab.read("n1", shared), printed)
    assert of_child > MOVES
    for node in ("n2", "n3"):
        assert lab.exec(node, ["test", "-e", shared], check=False).returncode == 1


@pytest.mark.parametrize("conf", [
    pytest.param([], id="plain"),
    pytest.param(["fault = " + delays()], id="delayed", marks=pytest.mark.matrix),
])
def test_200_moves_lose_and_double_nothing(lab, conf):
    made = lab(3, conf=conf)
    tour(made, user=1000, every_ms=2)
    logs = made.daemon_logs()
    assert logs.count(": moved from ") == MOVES
    if conf:
        missed = [p for p in fault_points() if f"fault point {p}: " not in logs]
        assert not missed

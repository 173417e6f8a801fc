"""Sixteen threads that work on each other are moved about, and nothing comes between them.

DROVER_STRESS_MOVES says how often (default 40).
"""

import itertools
import os

from lab import wait_until
from numbered_job import NumberedJob, Progress

MOVES = int(os.environ.get("DROVER_STRESS_MOVES", "40"))
TOUR = ["n2", "home", "n2", "n3", "home"]


def test_threads_that_work_on_each_other_are_moved(lab):
    made = lab(3)
    lines = Progress()
    job = NumberedJob(made, user=1000, every_ms=100, program="hammer", lines=lines)
    job.progress(2)
    for target in itertools.islice(itertools.cycle(TOUR), MOVES):
        job.migrate(target)
        # They also work wherever they are.
        before = lines.done
        wait_until(lambda: lines.done > before or not job.alive(), timeout=30,
                   what=f"progress after the move to {target}")
        job.check()
        assert job.alive(), f"it ended ({job.process.returncode}): {job.error}"
    job.finish(timeout=60)
    assert made.daemon_logs().count(": moved from ") == MOVES

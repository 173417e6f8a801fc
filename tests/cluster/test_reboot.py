"""A node that was switched off and is back takes processes, and sends them, from the start."""

import pytest

from lab import wait_until
from numbered_job import NumberedJob


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_what_was_asked_over_a_connection_that_had_ended_is_asked_again(lab, node):
    """What one node sends when the other has just been rebooted is lost: the question to n2 or,
    if that was n1, n2's answer to it. Both are soon sent over a new connection."""
    made = lab(2)
    job = NumberedJob(made)
    job.migrate("n2")
    job.migrate("home")
    made.kill(node)
    made.start(node)
    wait_until(lambda: made.status()[node]["daemon"], what=f"migrated of {node} answers")
    if node == "n1":
        job = NumberedJob(made)
    job.migrate("n2")
    job.progress(10)
    job.finish()

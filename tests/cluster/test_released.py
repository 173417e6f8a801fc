"""Nodes with the programs of the last release in one cluster with ours, and nodes that are
upgraded, or taken back, with jobs and guests running.

The released programs are not in the tree. DROVER_RELEASED_BIN is a directory of them, such as

    git worktree add ../released 98bd957   # and build it there

Without it these tests are not collected (conftest.py).
"""

import json
import os
from pathlib import Path

import pytest

from lab import BIN, Lab, wait_until
from numbered_job import NumberedJob

OURS, OLD = Path(BIN).resolve(), Path(os.environ["DROVER_RELEASED_BIN"]).resolve()
PROGRAMS = "/usr/lib/drover"


def exchange(lab, node, programs):
    """An upgrade, or its contrary: other programs in the place of those that run, then the
    daemon is started again."""
    lab.exec(node, ["mount", "--bind", programs, PROGRAMS])
    lab.stop_daemon(node, "TERM")
    lab.start_daemon(node)
    wait_until(lambda: lab.exec(node, ["mosps"], check=False).returncode == 0, what="mosps answers")


def tour(lab, jobs):
    """Every job, at home, goes to every other node and home, by hops in both directions."""
    for job in jobs:
        one, other = [node for node in lab.nodes if node != job.node]
        for target in (one, other, "home", other, one, other, "home"):
            job.migrate(target)
            job.progress(10)


def nothing_is_left(lab):
    def left():
        return [node for node in lab.nodes
                if lab.exec(node, ["pgrep", "-x", "deputy|guest|numbers"], check=False).stdout]
    wait_until(lambda: not left(), timeout=20, what="no deputy, guest or program is left")


@pytest.mark.parametrize("old", [["n1"], ["n2"], ["n1", "n2"], ["n2", "n3"]], ids="-".join)
def test_jobs_go_among_nodes_of_both_releases(lab, old):
    lab = lab(3, trees=False, bin_of={node: OLD for node in old})
    jobs = [NumberedJob(lab, node=node) for node in lab.nodes]
    tour(lab, jobs)
    for job in jobs:
        job.finish()
    nothing_is_left(lab)


@pytest.mark.parametrize("before, after", [(OLD, OURS), (OURS, OLD)], ids=["up", "down"])
@pytest.mark.parametrize("first", ["n1", "n2", "n3"])
def test_a_cluster_is_exchanged_node_by_node(lab, before, after, first):
    """Of three jobs of each node one is at home and one on each other node at every exchange."""
    lab = lab(3, trees=False, bin=before)
    order = sorted(lab.nodes, key=lambda node: (node != first, node))
    jobs = [NumberedJob(lab, node=home) for home in lab.nodes for _ in lab.nodes]
    for number, node in enumerate([*order, None]):
        for i, job in enumerate(jobs):
            target = lab.nodes[(i + number) % 3]
            if number or target != job.node:  # where it was started
                job.migrate("home" if target == job.node else target)
        if node:
            exchange(lab, node, after)
        for job in jobs:
            job.progress(10)
    for job in jobs:
        job.migrate("home", check=False)  # one of each node is there
    tour(lab, jobs)
    for job in jobs:
        job.finish()
    nothing_is_left(lab)


@pytest.mark.parametrize("before, after", [(OLD, OURS), (OURS, OLD)], ids=["up", "down"])
@pytest.mark.parametrize("way", [["home", "n3", "n2"], ["n3", "home", "n2"], ["n3", "n2", "home"]],
                         ids="-".join)
def test_a_job_that_is_away_goes_on_from_there(lab, before, after, way):
    """It is on n2 while one node, or all, get the other programs; then it moves on."""
    for changed in (["n1"], ["n2"], ["n3"], ["n1", "n2", "n3"]):
        with Lab(3, trees=False, bin=before) as one:
            job = NumberedJob(one)
            job.migrate("n2")
            for node in changed:
                exchange(one, node, after)
            job.progress()
            counted = json.loads(one.out("n1", ["mosps", "--json"]))[0]
            assert (counted["where"], counted["state"], counted["moves"]) == ("n2", "away", 1)
            for target in way:
                job.migrate(target)
                job.progress()
            job.finish()
            nothing_is_left(one)


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_new_programs_do_what_an_old_daemon_orders(lab, node):
    """In the moment between the exchange of the programs and that of the daemon."""
    lab = lab(3, trees=False, bin=OLD)
    before = NumberedJob(lab)
    before.migrate("n2")
    lab.exec(node, ["mount", "--bind", OURS, PROGRAMS])
    jobs = [NumberedJob(lab, node=home) for home in lab.nodes]
    tour(lab, jobs)
    for target in ("n3", "n2", "home"):
        before.migrate(target)
        before.progress()
    for job in (before, *jobs):
        job.finish()
    nothing_is_left(lab)


def test_old_programs_refuse_what_a_new_daemon_has_agreed(lab):
    """The same of a node that is taken back. It moves again when its daemon is exchanged, too."""
    lab = lab(3, trees=False)
    lab.exec("n1", ["mount", "--bind", OLD, PROGRAMS])
    job = NumberedJob(lab)
    done = job.migrate("n2", check=False)
    assert done.returncode == 1 and "protocol" in done.stderr
    job.progress()
    exchange(lab, "n1", OLD)
    tour(lab, [job])
    job.finish()
    nothing_is_left(lab)

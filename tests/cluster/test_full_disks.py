"""Disks that are full from some step of a move on cost nothing: no copy is lost, none is made.

All that a node writes is on one small disk: its cache of contents and its log.
"""

import re

import pytest

from fault_cases import Case, FaultLab, all_cases
from lab import wait_until
from numbered_job import NumberedJob

pytestmark = pytest.mark.matrix

# As far as the process is moved at all: each step once.
STEPS = [case for case in all_cases() if case.action == "fail"]
DISK = """
uid=$(id -u drover) &&
mkdir -p /var/small /var/cache/drover /var/log/drover &&
mount -t tmpfs -o size=48m small /var/small &&
mkdir /var/small/cache /var/small/log &&
chown $uid /var/small/cache && chmod 700 /var/small/cache &&
mount --bind /var/small/cache /var/cache/drover && mount --bind /var/small/log /var/log/drover
"""
FILL = "dd if=/dev/zero of=/var/small/fill bs=1M 2>/dev/null; " \
       "dd if=/dev/zero of=/var/small/rest bs=1 2>/dev/null; df --output=avail /var/small | tail -1"
CLEAR = "rm -f /var/small/fill /var/small/rest; find /var/small/cache -type f -delete"


@pytest.fixture(scope="module")
def small_disks():
    made = FaultLab()
    for node in made.lab.nodes:
        made.stop_daemon(node)
        made.lab.exec(node, ["sh", "-c", DISK])
    made.prepare({node: "none:fail" for node in made.lab.nodes})
    yield made
    made.lab.down()


def on_all_nodes(lab, script):
    return [lab.out(node, ["sh", "-c", script]) for node in lab.nodes]


@pytest.mark.parametrize("case", STEPS, ids=lambda case: f"{case.move}-{case.point}")
def test_a_disk_that_is_full_from_some_step_on_costs_nothing(small_disks, case: Case):
    lab = small_disks.lab
    on_all_nodes(lab, CLEAR)
    small_disks.prepare({case.node: f"{case.point}:delay=400"})
    job = NumberedJob(lab, ballast_mb=1)
    for node in case.before:
        job.migrate(node)
    mover = lab.popen("n1", ["mosmigrate", job.pid, case.target])
    log = small_disks.log(case.node)
    wait_until(lambda: f"fault point {case.point}: " in log.read_text(), what=case.point)
    assert on_all_nodes(lab, FILL) == ["0"] * len(lab.nodes)
    _, words = mover.communicate(timeout=20)
    job.progress(10)
    if mover.returncode == 0:
        assert small_disks.where_it_runs() == case.target
    else:
        assert re.fullmatch(r"mosmigrate: \d+: cannot move to \S+: \S.*\n", words), words
        assert small_disks.where_it_runs() == case.source
    on_all_nodes(lab, CLEAR)
    if mover.returncode != 0:
        job.migrate(case.target)
    job.progress(10)
    job.finish()
    assert job.error == ""

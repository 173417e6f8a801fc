"""A target that has too little room for a process costs it nothing."""

import errno
import re
from itertools import takewhile
from pathlib import Path

import pytest

from fault_cases import FaultLab, fault_points
from lab import wait_until
from numbered_job import NumberedJob

pytestmark = pytest.mark.matrix

# Those before the commit: later on, the body's memory is its own affair, as at home.
IMAGE_STEPS = list(takewhile(lambda point: point != "guest.image.committed",
                             filter(lambda point: point.startswith("guest.image."),
                                    fault_points())))


@pytest.fixture
def fault_lab():
    made = FaultLab()
    yield made
    if made.lab:
        made.lab.down()


def assert_stays(job, done):
    assert done.returncode == 1
    assert re.fullmatch(r"mosmigrate: \d+: cannot move to n2: \S.*\n", done.stderr), done.stderr
    job.progress(10)


def test_a_full_disk_of_the_target_costs_nothing(fault_lab):
    """The cache cannot take the contents of the file mappings: the move goes without it, or not
    at all; and once there is room it goes."""
    lab = fault_lab.lab
    full = "mount -t tmpfs -o size=16k full /var/cache/drover && chmod 700 /var/cache/drover"
    lab.exec("n2", ["sh", "-c", f"mkdir -p /var/cache/drover && {full}"])
    fault_lab.prepare({"n2": "none:fail"})
    job = NumberedJob(lab, ballast_mb=1)
    for _ in range(2):
        done = job.migrate("n2", check=False)
        if done.returncode != 0:
            assert_stays(job, done)
        else:
            job.progress(10)
            job.migrate("home")
    fault_lab.stop_daemon("n2")
    lab.exec("n2", ["umount", "/var/cache/drover"])
    fault_lab.prepare({})
    job.migrate("n2")
    job.progress(10)
    job.finish()


def test_too_little_memory_at_the_target_costs_nothing(fault_lab):
    """The body is killed while its pages arrive: the process goes on at home, and moves later."""
    lab = fault_lab.lab
    group = memory_group(lab.name, 48 << 20)
    try:
        for pid, _ in fault_lab.processes("n2", ("migrated",)):
            (group / "cgroup.procs").write_text(str(pid))
        job = NumberedJob(lab, ballast_mb=128)
        job.progress(5)
        assert_stays(job, job.migrate("n2", check=False))
        job.progress(10)
        wait_until(lambda: not fault_lab.processes("n2", ("guest", "numbers")), timeout=15,
                   what="no guest left")
        set_limit(group, 4 << 30)
        fault_lab.prepare({})
        job.migrate("n2")
        job.progress(10)
        job.finish()
    finally:
        lab.down()
        wait_until(lambda: not (group / "cgroup.procs").read_text(), what="an empty group")
        group.rmdir()


@pytest.mark.parametrize("step", IMAGE_STEPS)
def test_memory_that_is_full_from_some_step_on_costs_nothing(fault_lab, step):
    """From the step on, the target gets no more memory. What needed some after all is killed, be it
    migrated: the process goes on at home, or where it has come to."""
    lab = fault_lab.lab
    fault_lab.prepare({"n2": f"{step}:delay=500"})
    group = memory_group(lab.name, 4 << 30)
    try:
        for pid, _ in fault_lab.processes("n2", ("migrated",)):
            (group / "cgroup.procs").write_text(str(pid))
        job = NumberedJob(lab, ballast_mb=64)
        job.progress(5)
        mover = lab.popen("n1", ["mosmigrate", job.pid, "n2"])
        wait_until(lambda: f"fault point {step}: " in fault_lab.log("n2").read_text(), what=step)
        fill(group)
        _, words = mover.communicate(timeout=20)
        set_limit(group, 4 << 30)
        job.progress(10)
        if mover.returncode != 0:
            assert re.fullmatch(r"mosmigrate: \d+: cannot move to n2: \S.*\n", words), words
            wait_until(lambda: not fault_lab.processes("n2", ("guest", "numbers")), timeout=15,
                       what="no guest left")
            fault_lab.prepare({})
            job.migrate("n2")
            job.progress(10)
        job.finish()
        assert job.error == ""
    finally:
        lab.down()
        wait_until(lambda: not (group / "cgroup.procs").read_text(), what="an empty group")
        group.rmdir()


def fill(group):
    """Leaves the group next to nothing above what it uses."""
    limit = next(file for file in (group / "memory.limit_in_bytes", group / "memory.max")
                 if file.exists())
    usage = next(file for file in (group / "memory.usage_in_bytes", group / "memory.current")
                 if file.exists())

    def taken():
        try:
            limit.write_text(str(int(usage.read_text()) + (64 << 10)))
            return True
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False  # it has grown meanwhile

    wait_until(taken, what="a limit that is kept")


def memory_group(name, limit):
    """A group of processes of its own with so much memory, on cgroup v1 or v2."""
    first = Path("/sys/fs/cgroup/memory")
    top = first if first.is_dir() else Path("/sys/fs/cgroup")
    group = top / f"drover-{name}"
    group.mkdir()
    set_limit(group, limit)
    return group


def set_limit(group, limit):
    for file in ("memory.limit_in_bytes", "memory.max"):
        if (group / file).exists():
            (group / file).write_text(str(limit))
            return
    group.rmdir()
    pytest.skip("no memory controller here")


def test_more_memory_than_the_target_has_is_refused(fault_lab):
    job = NumberedJob(fault_lab.lab, options=["-m", str(1 << 22)])
    done = job.migrate("n2", check=False)
    assert_stays(job, done)
    assert "too little memory" in done.stderr
    job.finish()

"""A failed move is no move: something goes wrong at every step of the protocol, one at a time.

The steps are the ones that the programs list themselves; a step that no case reaches fails its
test. What became of the process in each case is the table docs/fault-matrix.md; a run writes
the table as observed into the build directory and compares the two.
"""

import re
from pathlib import Path

import pytest

from fault_cases import Bench, FaultLab, all_cases, fault_points, names_node
from lab import BIN, ROOT, wait_until
from numbered_job import NumberedJob

# Every step with every fault takes about five minutes.
pytestmark = pytest.mark.slow

CASES = all_cases()
MATRIX = ROOT / "docs" / "fault-matrix.md"

# From these steps on the body may be running where it was sent: an error may cost the job.
COMMITTED = {"deputy.outbound.commit-sent", "deputy.outbound.running",
             "deputy.outbound.memory-dropped", "deputy.hop.commit-sent", "deputy.hop.running",
             "guest.image.committed", "guest.image.running"}
# The body's memory is in this guest; from here on it is somewhere else too, or only there.
SENT = "guest.leave.image-sent"
OVER = {"guest.leave.discarded", "deputy.home.resumed"}


def allowed(case):
    """What the invariants allow to become of the process."""
    if case.point in OVER:
        return {"moved"}
    if case.point in COMMITTED:
        return {"stays", "moved", "lost"}
    if case.action == "kill":
        if case.move != "out" and case.point.startswith("deputy."):
            return {"lost"}
        if case.point == SENT:
            return {"moved", "stays", "lost"}
        if case.point.startswith("guest.leave."):
            return {"lost"}
    if case.action == "cut" and case.move == "home":
        # Home and the body no longer hear of each other.
        return {"lost", "moved"}
    return {"stays", "moved"} if case.point == SENT else {"stays"}


@pytest.fixture(scope="module")
def bench(request):
    chosen = [item.callspec.params["case"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")]
    made = Bench(chosen)
    yield made
    made.close()


def marked(case):
    return pytest.param(case, id=str(case),
                        marks=[pytest.mark.slow] if case.action != "fail" else [])


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_a_failed_move_is_no_move(bench, case, request):
    seen = bench.result(case)
    request.node.user_properties.append(("outcome", seen.outcome))
    try:
        assert seen.hit, "the step was not reached"
        assert not seen.problem
        assert seen.outcome in allowed(case)
        assert not seen.left
        assert seen.seconds < 20
        if seen.status != 0:
            assert seen.status == 1
            assert re.fullmatch(r"mosmigrate: \d+: cannot move to \S+: \S.*\n", seen.words)
        if seen.outcome == "stays":
            assert seen.status == 1
        if seen.outcome == "lost":
            assert names_node(seen.stderr, r"\d+"), f"the job's stderr: {seen.stderr!r}"
        else:
            assert seen.stderr == ""
    except AssertionError:
        print(f"{case}: {seen}".replace("\\n", "\n"))
        raise


def test_every_step_has_a_case():
    assert set(fault_points()) == {case.point for case in CASES}


@pytest.mark.slow
def test_the_table_of_outcomes_is_as_documented(bench, request):
    """A cell of the document may name several outcomes: then chance decides which."""
    chosen = {item.callspec.params["case"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")}
    if chosen != set(CASES):
        pytest.skip("only some of the cases were run")
    observed = {case: bench.result(case).outcome for case in CASES}
    (BIN.parent / "fault-matrix.md").write_text(table(observed))
    documented = cells(MATRIX.read_text())
    assert set(documented) == {(case.move, case.point) for case in CASES}
    wrong = [f"{case}: {outcome}" for case, outcome in observed.items()
             if outcome not in documented[case.move, case.point][case.action].split(" or ")]
    assert not wrong


def table(observed):
    lines = ["| move | step | it fails | its program is killed | the link is cut |",
             "| --- | --- | --- | --- | --- |"]
    for move, point in dict.fromkeys((case.move, case.point) for case in CASES):
        row = [observed[case] for case in CASES if (case.move, case.point) == (move, point)]
        lines.append(f"| {move} | {point} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def cells(text):
    found = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.strip("|").split("|")]
        if line.startswith("| ") and len(fields) == 5 and "." in fields[1]:
            found[fields[0], fields[1]] = dict(zip(("fail", "kill", "cut"), fields[2:]))
    return found


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

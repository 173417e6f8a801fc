"""Every order is answered, whatever becomes meanwhile of the process it is about."""

import pytest

from fault_cases import FaultLab, fault_points

STEPS = [point for point in fault_points() if point.startswith("migrated.home.")]


@pytest.fixture(scope="module")
def fault_lab():
    made = FaultLab()
    yield made
    made.lab.down()


@pytest.mark.parametrize("step", STEPS)
def test_an_order_is_answered_when_its_process_ends_at_home_meanwhile(fault_lab, step):
    fault_lab.prepare({"n1": f"{step}:delay=700"})
    job = fault_lab.lab.popen("n1", ["mosrun", "sh", "-c", "echo $$; exec sleep 0.4"])
    pid = job.stdout.readline().strip()
    done = fault_lab.lab.exec("n1", ["mosmigrate", pid, "n2"], check=False, timeout=20)
    assert done.returncode == 1
    assert done.stderr in (f"mosmigrate: {pid}: cannot move to n2: has ended\n",
                           f"mosmigrate: {pid}: cannot move to n2: the process has ended\n")
    assert job.wait(timeout=5) == 0

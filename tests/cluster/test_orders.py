"""Every order is answered, whatever becomes meanwhile of the process it is about."""

import re
import signal
import subprocess

import pytest

from fault_cases import MOVES, Case, FaultLab, fault_points
from lab import wait_until
from numbered_job import NumberedJob

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
    nothing_is_left(fault_lab)  # before the daemon, which has to say so, is restarted


def nothing_is_left(fault_lab):
    try:
        wait_until(lambda: not fault_lab.leftovers(), what="nothing left")
    except TimeoutError:
        pytest.fail(f"left: {fault_lab.leftovers()}\n{fault_lab.lab.daemon_logs()}")


DEPUTY_STEPS = [Case(move, point, "kill") for move in ("out", "home", "hop")
                for point in fault_points() if point.startswith(MOVES[move][0])]


@pytest.mark.parametrize("case", DEPUTY_STEPS, ids=str)
def test_a_process_that_is_killed_while_it_is_moved_has_ended_and_is_not_lost(fault_lab, case):
    fault_lab.prepare({"n1": f"{case.point}:delay=400"})
    lab = fault_lab.lab
    job = NumberedJob(lab, every_ms=5)
    for node in case.before:
        job.migrate(node)
    mover = lab.popen("n1", ["mosmigrate", job.pid, case.target])
    wait_until(lambda: f"fault point {case.point}: " in fault_lab.log("n1").read_text(),
               what="the step")
    lab.exec("n1", ["kill", "-KILL", job.pid])
    assert job.process.wait(timeout=10) == 128 + signal.SIGKILL
    _, words = mover.communicate(timeout=10)
    job.join()
    assert job.error == ""
    assert mover.returncode == 0 or "ended" in words
    nothing_is_left(fault_lab)


def test_a_link_that_has_ended_at_the_other_end_only_is_made_again(lab):
    """As after a cut that one of the two has noticed and the other has not."""
    made = lab(2)
    job = made.popen("n1", ["mosrun", "sh", "-c", "echo $$; exec sleep 100"])
    pid = job.stdout.readline().strip()
    for target in ("n2", "home"):
        made.exec("n1", ["mosmigrate", pid, target])
    made.cut("n1", "n2")
    ended = subprocess.run(["nsenter", "-n", "-t", str(made.status()["n2"]["init"]), "ss", "-HKtn",
                            "state", "established", "sport", "=", ":7471"],
                           capture_output=True, text=True)
    if not ended.stdout:
        pytest.skip("this kernel ends no connections (CONFIG_INET_DIAG_DESTROY)")
    wait_until(lambda: "link from n1 has ended" in made.daemon_logs(), what="n2 has noticed")
    assert "link to n2 has ended" not in made.daemon_logs()
    made.heal()
    made.exec("n1", ["mosmigrate", pid, "n2"])


@pytest.mark.unsanitized
def test_a_program_that_becomes_another_all_the_time_may_be_moved(fault_lab):
    """execve may come at any moment of a move; which program is moved is one or the other."""
    fault_lab.prepare({})
    lab = fault_lab.lab
    script = "/var/tmp/again"
    lab.write("n1", script, 'echo $1; sleep 0.01; [ $1 -ge 400 ] || exec sh "$0" $(($1 + 1))\n')
    job = lab.popen("n1", ["sh", "-c", 'echo $$; exec mosrun sh "$0" 0', script])
    pid = job.stdout.readline().strip()
    moved = 0
    while job.poll() is None:
        for target in ("n2", "home"):
            done = lab.exec("n1", ["mosmigrate", pid, target], check=False)
            assert done.returncode == 0 or re.search(
                "try again|ended|already|only just|came home|not a Drover job|No such process", done.stderr
            ), done.stderr
            moved += done.returncode == 0
    lines = job.stdout.read().splitlines()
    assert lines == [str(n) for n in range(401)]
    assert job.wait(timeout=5) == 0 and moved > 5


def test_a_program_that_was_just_started_may_be_moved_at_once(fault_lab):
    """As a shell's user would: mosrun PROGRAM & mosmigrate $! NODE."""
    fault_lab.prepare({})
    script = """for i in 1 2 3 4 5 6 7 8 9 10; do
      mosrun sleep 0.3 & mosmigrate $! n2 || exit 1
      wait $! || exit 2
    done"""
    done = fault_lab.lab.exec("n1", ["sh", "-c", script], check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_job_is_said_to_be_none(fault_lab):
    fault_lab.prepare({})
    script = "sleep 5 & mosmigrate $! n2; echo $?; kill $!"
    done = fault_lab.lab.exec("n1", ["sh", "-c", script], check=False)
    assert done.stdout == "1\n" and "is not a Drover job" in done.stderr

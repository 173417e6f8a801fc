"""What cannot be moved, or not there, is refused in clear words, whenever it is found out."""

import re
import subprocess

import pytest

from fault_cases import BASE, FaultLab
from lab import wait_until
from numbered_job import PROGRAMS, NumberedJob

BECOMES_TWO = """
import ctypes, os, sys, threading, time
def end_line():
    if OWN_FILES: ctypes.CDLL(None).unshare(0x400)
    apart.set()
    sys.stdin.readline()
print(os.getpid(), flush=True)
sys.stdin.readline()
apart = threading.Event()
other = threading.Thread(target=end_line)
other.start()
apart.wait()
print("two", flush=True)
while other.is_alive(): time.sleep(0.02)
print("one", flush=True)
"""


@pytest.fixture
def fault_lab():
    made = FaultLab()
    yield made
    made.lab.down()


def start_two(lab, own_files=False):
    program = BECOMES_TWO.replace("OWN_FILES", str(own_files))
    job = lab.popen("n1", ["mosrun", "/usr/bin/python3", "-c", program],
                    stdin=subprocess.PIPE, bufsize=1)
    return job, int(job.stdout.readline())


def become_two(job):
    job.stdin.write("go\n")
    assert job.stdout.readline() == "two\n"


def goes_on(job):
    out, error = job.communicate("end\n", timeout=10)
    assert (job.returncode, out, error) == (0, "one\n", "")


def words(pid):
    return (f"mosmigrate: {pid}: cannot move to n2: declined: its threads do not share their "
            "files\n")


def test_threads_that_do_not_share_their_files_are_refused(fault_lab):
    """A call that the deputy executes for one of them would be done in the files of another."""
    fault_lab.prepare({})
    job, pid = start_two(fault_lab.lab, own_files=True)
    become_two(job)
    done = fault_lab.lab.exec("n1", ["mosmigrate", pid, "n2"], check=False)
    assert (done.returncode, done.stderr) == (1, words(pid))
    goes_on(job)


@pytest.mark.parametrize("step", ["deputy.outbound.connected", "deputy.outbound.contents-sent"])
@pytest.mark.parametrize("own_files", [False, True])
def test_a_thread_that_is_started_during_the_move_is_not_left_behind(fault_lab, step, own_files):
    fault_lab.prepare({"n1": f"{step}:delay=1000"})
    job, pid = start_two(fault_lab.lab, own_files)
    mover = fault_lab.lab.popen("n1", ["mosmigrate", pid, "n2"])
    wait_until(lambda: f"fault point {step}: " in fault_lab.log("n1").read_text(), what=step)
    become_two(job)
    _, error = mover.communicate(timeout=10)
    assert (mover.returncode, error) == ((1, words(pid)) if own_files else (0, ""))
    goes_on(job)


def test_memory_that_is_shared_for_writing_is_named(fault_lab):
    """Not told as a moment that passes: nobody is to try again for ever."""
    fault_lab.prepare({})
    program = "import mmap, os, sys; m = mmap.mmap(-1, 4096); print(os.getpid(), flush=True); input()"
    job = fault_lab.lab.popen("n1", ["mosrun", "/usr/bin/python3", "-c", program],
                              stdin=subprocess.PIPE)
    pid = int(job.stdout.readline())
    done = fault_lab.lab.exec("n1", ["mosmigrate", pid, "n2"], check=False)
    words = rf"mosmigrate: {pid}: cannot move to n2: it has shared writable memory \(/dev/zero at .*\)\n"
    assert re.fullmatch(words, done.stderr), done.stderr
    job.communicate("end\n", timeout=10)
    assert job.returncode == 0


@pytest.mark.unsanitized
@pytest.mark.parametrize("hour", [3600, -3600])
def test_a_node_whose_wall_clock_is_an_hour_off_is_refused(fault_lab, hour):
    """Times that a program sees must not jump when it moves; everything else does not care."""
    lab = fault_lab.lab
    fault_lab.prepare({})
    away = NumberedJob(lab)
    away.migrate("n2")
    fault_lab.stop_daemon("n1")
    fault_lab.root("n1").joinpath("etc/drover/drover.conf").write_text(BASE.format("n1"))
    lab.exec("n1", ["sh", "-c", f"CLOCK_AHEAD={hour} LD_PRELOAD={PROGRAMS}/clock_ahead.so migrated "
                    "</dev/null >>/var/log/drover/migrated.log 2>&1 &"],
             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: fault_lab.answers("n1"), what="migrated on n1")
    away.progress(10)
    job = NumberedJob(lab)
    done = job.migrate("n2", check=False)
    assert re.fullmatch(rf"mosmigrate: {job.pid}: cannot move to n2: the clock of n2 differs from "
                        r"ours by 3[56]\d{5} ms\n", done.stderr), done.stderr
    job.progress(10)
    job.finish()
    away.finish()

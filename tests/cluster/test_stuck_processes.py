"""A process that cannot be stopped is not waited for without end, and not lost.

It writes to a file system that is frozen (fsfreeze(8)), a wait that no signal interrupts.
"""

import os
import re
import subprocess
import threading
import time

import pytest

from crowd import Crowd
from lab import wait_until
from numbered_job import PROGRAMS

# Says its pid, writes the line that it is told to the frozen file system, and ends after one more.
JOB = 'echo $$; read line; echo "$line" >/stuck/file; echo done; read line'


@pytest.fixture
def stuck(lab, tmp_path):
    """A lab of three nodes; n1 has a file system of its own on /stuck."""
    made = lab(3)
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    device = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
    if device.returncode != 0:
        pytest.skip(f"no loop devices here: {device.stderr.strip()}")
    device = device.stdout.strip()
    try:
        inside = ["nsenter", "-m", "-t", str(made.status()["n1"]["init"])]
        number = os.minor(os.stat(device).st_rdev)
        subprocess.run([*inside, "sh", "-c", f"mkdir /stuck && mknod /dev/stuck b 7 {number} && "
                        "mount /dev/stuck /stuck"], check=True)
        yield made
        subprocess.run([*inside, "fsfreeze", "-u", "/stuck"], stderr=subprocess.DEVNULL)
        made.down()
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def start(lab):
    job = lab.popen("n1", ["mosrun", "sh", "-c", JOB], stdin=subprocess.PIPE,
                    stderr=subprocess.PIPE)
    return job, int(job.stdout.readline())


def get_stuck(lab, job, pid):
    lab.exec("n1", ["fsfreeze", "-f", "/stuck"])
    job.stdin.write("a line\n")
    job.stdin.flush()
    wait_until(lambda: lab.out("n1", ["ps", "-o", "state=", "-p", pid]).strip() == "D",
               what="it hangs in its write")


def refused(lab, pid, target):
    began = time.monotonic()
    done = lab.exec("n1", ["mosmigrate", pid, target], check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"mosmigrate: \d+: cannot move to \S+: .* does not stop: .*\n", done.stderr)
    assert time.monotonic() - began < 10


def goes_on(lab, job):
    lab.exec("n1", ["fsfreeze", "-u", "/stuck"])
    assert job.stdout.readline() == "done\n"
    assert lab.read("n1", "/stuck/file") == "a line\n"


def ends_well(job):
    out, err = job.communicate("end\n", timeout=10)
    assert (job.returncode, out, err) == (0, "", "")


def test_a_process_at_home_that_does_not_stop_stays(stuck):
    job, pid = start(stuck)
    get_stuck(stuck, job, pid)
    refused(stuck, pid, "n2")
    goes_on(stuck, job)
    stuck.exec("n1", ["mosmigrate", pid, "n2"])
    ends_well(job)


def test_a_process_away_that_does_not_stop_at_home_stays_away(stuck):
    job, pid = start(stuck)
    stuck.exec("n1", ["mosmigrate", pid, "n2"])
    get_stuck(stuck, job, pid)
    refused(stuck, pid, "home")
    time.sleep(4)  # its body hears of home all the time
    refused(stuck, pid, "n3")
    goes_on(stuck, job)
    stuck.exec("n1", ["mosmigrate", pid, "home"])
    ends_well(job)


def test_a_thread_that_needs_home_is_not_forgotten_when_that_fails(stuck):
    """Another one hangs. Home is asked again and again, and a third sees nothing of it."""
    job = Crowd(stuck, "fork", "/stuck/file", user=None)
    job.migrate("n2")
    stuck.exec("n1", ["fsfreeze", "-f", "/stuck"])
    job.signal("USR2")
    time.sleep(0.3)
    job.signal("USR1")
    wait_until(lambda: "does not stop" in stuck.daemon_logs(), what="a homecoming that fails",
               timeout=15)
    assert job.lines == []
    stuck.exec("n1", ["fsfreeze", "-u", "/stuck"])
    job.wait_for("forked", timeout=20)
    assert sorted(job.lines) == ["forked", "written"]
    job.signal("KILL")
    job.end()


def test_the_threads_that_do_stop_go_on_while_those_that_do_not_are_waited_for(lab):
    made = lab(2)
    job = made.popen("n1", ["mosrun", PROGRAMS / "vforks", "4"])
    pid = int(job.stdout.readline().split()[1])
    wait_until(lambda: len(made.out("n1", ["ps", "-o", "pid=", "--ppid", pid]).split()) == 4,
               what="four children of vfork")
    longest = {"early": 0.0, "late": 0.0}

    def time_ticks():
        last = dict.fromkeys(longest, time.monotonic())
        for line in job.stdout:
            name, now = line.split()[1], time.monotonic()
            longest[name] = max(longest[name], now - last[name])
            last[name] = now
    ticks = threading.Thread(target=time_ticks, daemon=True)
    ticks.start()
    done = made.exec("n1", ["mosmigrate", pid, "n2"], check=False)
    assert done.returncode == 1 and "does not stop" in done.stderr
    time.sleep(0.5)
    # They stand while the first one is waited for, not for each of the others.
    assert longest["early"] < 7 and longest["late"] < 7, longest
    made.exec("n1", ["pkill", "-USR1", "-P", pid])
    assert job.wait(timeout=10) == 0
    ticks.join(timeout=10)


class Threads:
    """programs/stuck as a job, away on n2: what its threads say."""

    def __init__(self, lab):
        self.lab = lab
        self.job = lab.popen("n1", ["mosrun", PROGRAMS / "stuck", "/stuck/file"])
        self.pid = int(self.job.stdout.readline().split()[1])
        self.said = []
        threading.Thread(target=self._read, daemon=True).start()
        lab.exec("n1", ["mosmigrate", self.pid, "n2"])

    def _read(self):
        for line in self.job.stdout:
            self.said.append(line.rstrip())

    def signal(self, name):
        self.lab.exec("n1", ["kill", f"-{name}", self.pid])

    def await_line(self, line, timeout=10):
        wait_until(lambda: line in self.said or self.job.poll() is not None, timeout=timeout,
                   what=f"it says {line!r}")
        assert line in self.said, f"it ended: {self.job.returncode}, {self.job.stderr.read()}"

    def await_one_in_disk_sleep(self):
        states = ["sh", "-c", f"cat /proc/{self.pid}/task/*/stat"]
        wait_until(lambda: " D " in self.lab.out("n1", states), what="a thread hangs in its write")

    def go_on(self, seconds):
        """The threads that do not hang go on all the time."""
        for _ in range(seconds):
            before = self.said.count("tick")
            time.sleep(1)
            assert self.said.count("tick") > before + 3, self.said

    def end(self):
        self.lab.exec("n1", ["mosmigrate", self.pid, "home"])
        self.signal("KILL")
        self.job.wait(timeout=10)


def test_a_thread_that_holds_the_position_of_a_file_holds_only_who_asks_for_it(stuck):
    threads = Threads(stuck)
    threads.signal("USR1")
    threads.await_line("at 5")
    stuck.exec("n1", ["fsfreeze", "-f", "/stuck"])
    threads.signal("USR2")
    threads.await_one_in_disk_sleep()
    threads.signal("USR1")
    threads.go_on(seconds=3)
    assert threads.said[-1] == "tick" and "at 6" not in threads.said
    stuck.exec("n1", ["fsfreeze", "-u", "/stuck"])
    threads.await_line("at 6")
    assert "written" in threads.said
    threads.end()


def test_a_signal_that_comes_back_waits_for_the_leading_thread_to_come_out_of_its_write(stuck):
    threads = Threads(stuck)
    stuck.exec("n1", ["fsfreeze", "-f", "/stuck"])
    threads.signal("HUP")
    threads.await_one_in_disk_sleep()
    # The thread that handles them blocks them all the time: it can take only some, when told.
    count = 300
    stuck.exec("n1", ["/usr/bin/python3", "-c", "import os, signal, time\n"
                      f"for _ in range({count}):\n"
                      f"    os.kill({threads.pid}, signal.SIGRTMIN)\n"
                      "    time.sleep(0.002)"])
    threads.go_on(seconds=7)
    stuck.exec("n1", ["fsfreeze", "-u", "/stuck"])
    threads.await_line("written")

    def all_handled():
        threads.signal("USR1")
        time.sleep(0.2)
        return f"got {count}" in threads.said
    wait_until(all_handled, what="all signals are handled")
    time.sleep(0.5)
    assert all_handled() and threads.said[-1] in ("tick", f"got {count}")
    threads.end()

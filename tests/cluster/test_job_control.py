"""A shell's jobs that are away: its user stops them and lets them go on, and the terminal does."""

import json
import re

import pytest

from lab import wait_until
from terminal import Terminal

# What the program at a terminal that hangs up is told, into a file.
HANGS_UP = """
import os, signal, sys
def told(number, frame):
    with open(sys.argv[1], "a") as file:
        print(signal.Signals(number).name, file=file)
        for what in (lambda: os.read(0, 10), lambda: os.write(1, b"x")):
            try:
                print(what(), file=file)
            except OSError as error:
                print(error.strerror, file=file)
    os._exit(0)
signal.signal(signal.SIGHUP, told)
print("ready", flush=True)
while True:
    signal.pause()
"""
# Says how large its terminal is.
WINDOW = """
import os, signal
def say(*_):
    size = os.get_terminal_size()
    print(f"{size.columns}x{size.lines}", flush=True)
signal.signal(signal.SIGWINCH, say)
say()
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def made(module_lab):
    return module_lab(2)


@pytest.fixture
def shell(made):
    terminal = Terminal(made)
    terminal.expect(r"^\$$")
    yield terminal
    terminal.close()


def jobs(lab):
    return json.loads(lab.out("n1", ["mosps", "--json"]))


def start_away(terminal, command, name):
    """Starts it as a job, in the foreground or the background, and moves it away."""
    known = [job["pid"] for job in jobs(terminal.lab)]
    terminal.line("mosrun " + command)
    pid = wait_until(lambda: [job["pid"] for job in jobs(terminal.lab)
                              if job["pid"] not in known and job["command"] == name], what=name)[0]
    terminal.lab.exec("n1", ["mosmigrate", pid, "n2"])
    return pid


def job_of(lab, pid):
    return next(job for job in jobs(lab) if job["pid"] == pid)


def assert_stayed_away(lab, pid, state="away"):
    wait_until(lambda: job_of(lab, pid)["state"] == state, what=f"state {state}")
    told = job_of(lab, pid)
    assert told["where"] == "n2" and told["moves"] == 1
    assert not any(call["forced_home"] for call in told["calls"].values()), told["calls"]


def test_ctrl_z_fg_and_bg(made, shell):
    pid = start_away(shell, "cat", "cat")
    shell.line("one")
    shell.expect(r"^one\none$")
    shell.keys("C-z")
    shell.expect(r"^\[1\]\+  Stopped +mosrun cat$")
    assert_stayed_away(made, pid, "stopped")
    shell.line("fg")
    shell.expect(r"^mosrun cat$")
    shell.line("two")
    shell.expect(r"^two\ntwo$")
    shell.keys("C-z")
    shell.expect(r"Stopped +mosrun cat\n(.*\n)*.*Stopped +mosrun cat$")
    # In the background it may not read.
    shell.line("bg; sleep 0.3; jobs -l")
    shell.expect(rf"^\[1\]\+ +{pid} Stopped \(tty input\) +mosrun cat$")
    assert_stayed_away(made, pid, "stopped")
    shell.line("fg")
    shell.line("three")
    shell.expect(r"^three\nthree$")
    shell.keys("C-d")
    shell.line("echo status $?")
    shell.expect(r"^status 0$")


@pytest.mark.parametrize("key, status", [("C-c", 130), ("C-\\", 131)])
def test_keys_that_end_it(made, shell, key, status):
    shell.line("ulimit -c 0")  # else it comes home for its core
    pid = start_away(shell, "cat", "cat")
    assert_stayed_away(made, pid)
    shell.keys(key)
    shell.line("echo status $?")
    shell.expect(rf"^status {status}$")


def test_a_job_in_the_background_that_writes(made, shell):
    """It may, unless the terminal says that it may not."""
    made.exec("n1", ["mkfifo", "/var/tmp/go"])

    def start_writer(words):
        pid = start_away(shell, f"sh -c 'read line <&9; echo {words}' 9<>/var/tmp/go &", "sh")
        made.exec("n1", ["sh", "-c", "echo >> /var/tmp/go"])
        return pid
    shell.line("stty tostop")
    pid = start_writer("written")
    assert_stayed_away(made, pid, "stopped")
    shell.line("jobs -l")
    shell.expect(rf"^\[1\]\+ +{pid} Stopped \(tty output\)")
    shell.line("fg; echo status $?")
    shell.expect(r"^written\nstatus 0$")
    shell.line("stty -tostop")
    start_writer("written again")
    shell.expect(r"written again$")


def test_the_shell_itself_may_be_away(made):
    """It gives its jobs the terminal and takes it back; for each of them it has to come home."""
    terminal = Terminal(made, "env", "PS1=$ ", "mosrun", "bash", "--norc", "--noprofile", "-i")
    terminal.expect(r"^\$$")
    pid = next(job["pid"] for job in jobs(made) if job["command"] == "bash")
    made.exec("n1", ["mosmigrate", pid, "n2"])
    terminal.line("cat")
    terminal.line("one")
    terminal.expect(r"^one\none$")
    terminal.keys("C-z")
    terminal.expect(r"^\[1\]\+  Stopped +cat$")
    made.exec("n1", ["mosmigrate", pid, "n2"])
    terminal.line("fg")
    terminal.expect(r"^\$ fg\ncat$")
    terminal.line("two")
    terminal.expect(r"^two\ntwo$")
    terminal.keys("C-c")
    terminal.line("echo status $?")
    terminal.expect(r"^status 130$")
    assert job_of(made, pid)["moves"] > 2
    terminal.close()


def test_a_window_that_changes_its_size(made):
    terminal = Terminal(made)
    made.write("n1", "/var/tmp/window.py", WINDOW)
    pid = start_away(terminal, "/usr/bin/python3 /var/tmp/window.py", "python3")
    for width, height in ((100, 30), (62, 20), (81, 25)):
        terminal.resize(width, height)
        terminal.expect(rf"^{width}x{height}$")
    # What changes while it is stopped it is told when it goes on.
    terminal.keys("C-z")
    terminal.expect(r"Stopped")
    terminal.resize(70, 22)
    terminal.line("fg")
    terminal.expect(r"^70x22$")
    assert_stayed_away(made, pid)
    terminal.close()


def test_a_terminal_that_hangs_up(made):
    """What it is told then is what a program that was never moved is told."""
    made.write("n1", "/var/tmp/hangs_up.py", HANGS_UP)
    told = []
    for away in (True, False):
        path = f"/var/tmp/told.{away}"
        terminal = Terminal(made)
        command = f"/usr/bin/python3 /var/tmp/hangs_up.py {path}"
        if away:
            assert_stayed_away(made, start_away(terminal, command, "python3"))
        else:
            terminal.line(command)
        terminal.expect(r"^ready$")
        terminal.close()
        told.append(wait_until(lambda path=path: (lines := made.exec(
            "n1", ["cat", path], check=False).stdout).count("\n") == 3 and lines, what=path))
    assert told[0] == told[1]
    assert told[0].startswith("SIGHUP\n") and "Input/output error" in told[0]


def test_a_stopped_job_whose_terminal_hangs_up_ends(made):
    terminal = Terminal(made)
    pid = start_away(terminal, "cat", "cat")
    terminal.keys("C-z")
    terminal.expect("Stopped")
    assert_stayed_away(made, pid, "stopped")
    terminal.close()
    wait_until(lambda: pid not in [job["pid"] for job in jobs(made)], what="its end")


def test_what_script_writes_down(made):
    terminal = Terminal(made, "script", "-q", "-c", "env PS1=$' ' bash --norc --noprofile -i",
                        "/var/tmp/typescript")
    pid = start_away(terminal, "cat", "cat")
    terminal.line("written down")
    terminal.expect(r"^written down\nwritten down$")
    terminal.keys("C-z")
    terminal.expect("Stopped")
    terminal.line("fg")
    terminal.line("and more")
    terminal.expect(r"^and more\nand more$")
    assert_stayed_away(made, pid)
    terminal.keys("C-d")
    terminal.line("exit")
    text = wait_until(lambda: (t := made.read("n1", "/var/tmp/typescript")).count("exit") and t,
                      what="the typescript")
    assert len(re.findall(r"written down\n", text)) == 2
    assert len(re.findall(r"and more\n", text)) == 2
    terminal.close()

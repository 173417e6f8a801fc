"""moslab itself, without the daemons."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab import BIN, MOSLAB, Lab, lab_names, new_name, run_moslab, traces, wait_until

NAMESPACES = ["mnt", "net", "pid", "uts", "ipc", "time", "cgroup"]

# Measures the CPU time it gets while it wants all, for two seconds of the host's clock.
BURN = """
import resource, time
start = time.time()
while time.time() - start < 2: pass
used = resource.getrusage(resource.RUSAGE_SELF)
print((used.ru_utime + used.ru_stime) / (time.time() - start))
"""

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9000), 1.5)
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""

# Sends a number ten times a second to whoever connects.
SERVE = """
import socket, time
listener = socket.create_server(("0.0.0.0", 9000))
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    try:
        for number in range(10**6):
            peer.sendall(b"%d\\n" % number)
            time.sleep(0.1)
    except OSError as error:
        print(repr(error), flush=True)
"""


@pytest.fixture(scope="module")
def three(module_lab, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    (work / "file").write_text("only n1 has it")
    lab = module_lab(3, mask=[work], cpus="0.3,1,2", daemons=False)
    lab.work = work
    return lab


def python(lab, node, script, *args, **kw):
    return lab.out(node, ["/usr/bin/python3", "-c", script, *args], **kw)


def test_nodes_share_no_namespace(three):
    seen = {}
    for where in ["host", *three.nodes]:
        for kind in NAMESPACES:
            link = (os.readlink(f"/proc/self/ns/{kind}") if where == "host" else
                    three.out(where, ["readlink", f"/proc/self/ns/{kind}"]))
            assert link not in seen, f"{where} shares its {kind} namespace with {seen[link]}"
            seen[link] = where


def test_nodes_have_their_own_names_and_pids(three):
    assert [three.out(n, ["hostname"]) for n in three.nodes] == three.nodes
    assert three.out("n2", ["cat", "/proc/1/comm"]) == "moslab-init"
    assert three.out("n2", ["getent", "hosts", "n3"]).split()[0] == "10.77.0.3"


def test_clocks_since_boot_differ_by_minutes(three):
    script = ("import time; print(*(time.clock_gettime(c) for c in "
              "(time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)))")
    clocks = {n: [float(t) for t in python(three, n, script).split()] for n in three.nodes}
    clocks["host"] = [time.clock_gettime(c) for c in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)]
    for kind in range(2):
        readings = sorted(clock[kind] for clock in clocks.values())
        assert all(b - a > 120 for a, b in zip(readings, readings[1:]))


def test_masked_directories_are_empty_but_on_n1(three):
    assert three.out("n1", ["cat", three.work / "file"]) == "only n1 has it"
    for node in ("n2", "n3"):
        assert three.out(node, ["ls", "-A", three.work]) == ""


def test_a_mask_may_lie_inside_another(lab, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "file").write_text("only n1 has it")
    for order in ([inner, tmp_path], [tmp_path, inner]):
        nested = lab(2, mask=order, trees=False, daemons=False)
        assert nested.out("n1", ["cat", inner / "file"]) == "only n1 has it"
        assert nested.out("n2", ["ls", "-A", tmp_path]) == ""


def test_a_nodes_writes_are_its_own(three):
    for path in ("/usr/written", "/var/lib/written", "/home/written", "/root/written",
                 "/tmp/written", "/run/written", three.work / "written"):
        three.write("n1", path, "by n1")
        assert three.read("n1", path) == "by n1"
        assert not Path(path).exists()
        assert three.exec("n2", ["test", "-e", path], check=False).returncode == 1


def test_private_directories_start_empty(three):
    for directory in ("/home", "/root", "/etc/drover", "/var/lib", "/var/tmp"):
        assert three.out("n3", ["ls", "-A", directory]) == "", directory


def test_programs_are_there_even_where_their_directory_is_masked(lab):
    masked = lab(2, mask=[BIN.parent], trees=False, daemons=False)
    assert masked.out("n2", ["ls", "-A", BIN.parent]) == ""
    assert masked.out("n2", ["moslab", "--version"]).startswith("moslab ")
    assert masked.exec("n2", ["touch", "/usr/lib/drover/x"], check=False).returncode == 1


def test_cpu_quotas_are_obeyed(three):
    for node, quota in (("n1", 0.3), ("n2", 1.0)):
        share = float(python(three, node, BURN))
        # A node with a whole CPU may get less of it when the machine is busy, never more.
        assert share <= quota * 1.15, node
        if quota < 0.5:
            assert share >= quota * 0.85, node


def test_exec_passes_stdin_stdout_stderr_and_exit_status(three):
    done = three.exec("n2", ["sh", "-c", "cat; echo oops >&2; exit 7"], input="hello",
                      check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("hello", "oops\n", 7)
    done = three.exec("n2", ["sh", "-c", "kill -SEGV $$"], check=False)
    assert done.returncode == 128 + signal.SIGSEGV
    done = three.exec("n2", ["no-such-program"], check=False)
    assert done.returncode == 127
    assert done.stderr == "moslab: no-such-program: No such file or directory\n"
    assert run_moslab("exec", "n9", "--name", three.name, "--", "true").returncode == 125


def test_exec_as_a_user(three):
    assert three.out("n2", ["id", "-u"], user=1000) == "1000"
    done = three.exec("n2", ["touch", "/etc/x"], user=1000, check=False)
    assert done.returncode == 1
    assert three.out("n2", ["sh", "-c", "echo a >/tmp/u1000; stat -c %u /tmp/u1000"],
                     user=1000) == "1000"


def test_exec_passes_signals_on(three):
    script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    process = three.popen("n1", ["sh", "-c", script])
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=10)[0] == "got it\n"
    assert process.returncode == 3


def read_until(fd, pattern, timeout=10):
    text = ""
    deadline = time.monotonic() + timeout
    while not re.search(pattern, text):
        assert time.monotonic() < deadline, f"no {pattern} in {text!r}"
        if select.select([fd], [], [], 0.1)[0]:
            try:
                text += os.read(fd, 4096).decode()
            except OSError:  # the other end is closed
                raise AssertionError(f"no {pattern} in {text!r}") from None
    return text


def test_exec_on_a_terminal_has_it_as_controlling_terminal(three):
    pid, terminal = pty.fork()
    if pid == 0:
        script = ("trap 'echo interrupted' INT; echo hi >/dev/tty; "
                  "until read line; do :; done; echo got $line; exit 4")
        os.execv(MOSLAB, three.command("n1", ["sh", "-c", script]))
    read_until(terminal, "hi")
    os.write(terminal, b"\x03")
    read_until(terminal, "interrupted")
    os.write(terminal, b"word\n")
    read_until(terminal, "got word")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    os.close(terminal)


def test_exec_stops_and_continues_with_its_command(three):
    # A shell with job control on a terminal: Ctrl-Z must give the prompt back, fg the command.
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/bash", ["bash", "--norc", "-i"])
    command = " ".join(three.command("n1", ["sh", "-c", "'printf st%s\\\\n arted; exec cat'"]))
    os.write(terminal, f"{command}\n".encode())
    read_until(terminal, "started")  # the command line itself does not say that
    os.write(terminal, b"one\n")
    read_until(terminal, "one\r\n(.|\n)*one")
    os.write(terminal, b"\x1a")
    read_until(terminal, "Stopped")
    os.write(terminal, b"fg\n")
    read_until(terminal, "exec")
    os.write(terminal, b"two\n")
    read_until(terminal, "two\r\n(.|\n)*two")
    os.write(terminal, b"\x04")
    os.write(terminal, b"exit 5\n")
    read_until(terminal, "exit")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(terminal)


def test_exec_on_a_free_terminal_makes_it_the_commands_own(three):
    terminal, slave = os.openpty()
    process = three.popen("n1", ["sh", "-c", "ps -o tpgid= -p $$; echo $$ done >/dev/tty"],
                          stdin=slave, stdout=slave, stderr=slave)
    text = read_until(terminal, "done")
    group, pid = re.search(r"(\d+)\s+(\d+) done", text).groups()
    assert group == pid
    assert process.wait(timeout=10) == 0
    os.close(terminal)
    os.close(slave)


def test_terminals_can_be_made_inside(three):
    script = "import pty, os; pid, fd = pty.fork()\n" \
             "if pid == 0: os.execvp('tty', ['tty'])\n" \
             "print(os.read(fd, 100).decode().strip())"
    assert python(three, "n1", script).startswith("/dev/pts/")


def test_namespaces_nest_inside_a_node(three):
    script = "mount -t proc proc /proc && mount -t sysfs sysfs /sys && cat /proc/self/status"
    out = three.out("n1", ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount",
                           "--net", "sh", "-c", script], user=1879048192)
    assert "Pid:" in out


def test_a_node_can_make_cgroups_of_its_own(three):
    script = ("set -e; for d in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); do "
              "mkdir $d/mine; echo $d; rmdir $d/mine; done")
    assert "cgroup" in three.out("n1", ["sh", "-c", script])
    for line in three.out("n1", ["cat", "/proc/self/cgroup"]).splitlines():
        assert "moslab" not in line


def test_nothing_of_a_lab_shows_in_the_hosts_network_and_mounts(three):
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    assert "eth0@" not in links and "switch" not in links
    assert "moslab" not in Path("/proc/mounts").read_text()


def test_rate_limits_a_link(lab):
    slow = lab(2, rate=40, daemons=False)
    server = slow.popen("n2", ["/usr/bin/python3", "-c",
                               "import socket; s = socket.create_server(('', 9000)); "
                               "print('ready', flush=True); c, _ = s.accept()\n"
                               "while c.recv(1 << 20): pass"])
    assert server.stdout.readline() == "ready\n"
    script = ("import socket, time; c = socket.create_connection(('n2', 9000)); t = time.time(); "
              "c.sendall(bytes(10_000_000)); c.shutdown(1); c.recv(1); print(time.time() - t)")
    mbit = 80 / float(python(slow, "n1", script))
    assert 28 < mbit < 46


def test_rtt_delays_packets_or_says_that_the_kernel_cannot():
    name = new_name()
    done = run_moslab("up", 2, "--rtt", 40, "--no-daemons", "--name", name)
    if done.returncode != 0:
        assert done.stderr.startswith("moslab: rtt: this kernel cannot delay packets")
        assert done.stderr.count("\n") == 1
        assert traces_gone(name)
        return
    script = ("import socket, time; t = time.time()\n"
              "try: socket.create_connection(('10.77.0.2', 9))\n"
              "except ConnectionRefusedError: print(time.time() - t)")
    try:
        run_moslab("exec", "n1", "--name", name, "--", "/usr/bin/python3", "-c", script)
        done = run_moslab("exec", "n1", "--name", name, "--", "/usr/bin/python3", "-c", script)
        assert 0.04 <= float(done.stdout) < 0.08
    finally:
        run_moslab("down", "--name", name)


def test_a_cut_is_silent_and_heals(lab):
    made = lab(3, daemons=False)
    server = made.popen("n2", ["/usr/bin/python3", "-c", SERVE])
    assert server.stdout.readline() == "ready\n"
    reader = made.popen("n1", ["/usr/bin/python3", "-c",
                               "import socket; f = socket.create_connection(('n2', 9000)).makefile()\n"
                               "for line in f: print(line, end='', flush=True)"])
    assert reader.stdout.readline() == "0\n"
    made.cut("n1", "n2")
    assert made.status()["n1"]["cut_from"] == ["n2"]
    assert python(made, "n1", CONNECT, "10.77.0.2") == "TimeoutError"
    assert python(made, "n3", CONNECT, "10.77.0.2") == "connected"
    made.heal("n1", "n2")
    assert made.status()["n1"]["cut_from"] == []
    # The connection from before was not told anything, and goes on.
    numbers = [int(reader.stdout.readline()) for _ in range(20)]
    assert numbers == list(range(1, 21))
    assert python(made, "n1", CONNECT, "10.77.0.2") == "connected"


def node_groups(lab_name, node):
    """The cgroups of a node, in every hierarchy."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return [group for path, kind in mounts if kind in ("cgroup", "cgroup2")
            for group in Path(path).glob(f"**/moslab-{lab_name}/{node}")]


def test_power_cut_and_boot(lab):
    made = lab(3, daemons=False)
    server = made.popen("n2", ["/usr/bin/python3", "-c", SERVE])
    assert server.stdout.readline() == "ready\n"
    reader = made.popen("n1", ["/usr/bin/python3", "-c",
                               "import socket; s = socket.create_connection(('n2', 9000))\n"
                               "s.settimeout(2)\n"
                               "print(s.recv(9), flush=True)\n"
                               "try:\n"
                               "  while s.recv(9): pass\n"
                               "  print('closed')\n"
                               "except OSError as e: print(type(e).__name__)"])
    reader.stdout.readline()
    made.write("n2", "/var/lib/kept", "kept")
    made.write("n2", "/tmp/lost", "lost")
    made.cut("n2", "n3")
    init = made.status()["n2"]["init"]
    made.kill("n2")
    assert server.wait(timeout=5) == 128 + signal.SIGKILL
    assert made.status()["n2"]["state"] == "off"
    assert node_groups(made.name, "n1") and not node_groups(made.name, "n2")
    # No farewell: the peer finds out only because it waits no longer.
    assert reader.communicate(timeout=10)[0].strip() == "TimeoutError"
    assert run_moslab("exec", "n2", "--name", made.name, "--", "true").returncode == 125
    made.start("n2")
    assert made.status()["n2"]["init"] != init
    assert made.read("n2", "/var/lib/kept") == "kept"
    assert made.exec("n2", ["test", "-e", "/tmp/lost"], check=False).returncode == 1
    assert python(made, "n1", CONNECT, "10.77.0.2") == "ConnectionRefusedError"
    assert python(made, "n3", CONNECT, "10.77.0.2") == "TimeoutError"


def test_a_node_whose_init_died_is_off_and_boots_again(lab):
    made = lab(2, daemons=False)
    os.kill(made.status()["n2"]["init"], signal.SIGKILL)
    wait_until(lambda: made.status()["n2"]["state"] == "off", what="n2 off")
    made.start("n2")
    assert made.out("n2", ["hostname"]) == "n2"


def test_labs_side_by_side_do_not_meet(lab):
    one, two = lab(2, daemons=False), lab(2, daemons=False)
    server = one.popen("n2", ["/usr/bin/python3", "-c", SERVE])
    assert server.stdout.readline() == "ready\n"
    assert python(one, "n1", CONNECT, "10.77.0.2") == "connected"
    assert python(two, "n1", CONNECT, "10.77.0.2") == "ConnectionRefusedError"
    two.down()
    assert one.out("n1", ["hostname"]) == "n1"


def traces_gone(name):
    # A killed process is gone when its parent, possibly the machine's init, has seen it.
    wait_until(lambda: not traces(name), timeout=15, what=f"nothing left of {name}")
    return True


def namespaces_of(lab):
    return {lab.out(n, ["readlink", f"/proc/self/ns/{k}"]) for n in lab.nodes for k in NAMESPACES}


def all_namespaces():
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/*"):
        try:
            found.add(os.readlink(link))
        except OSError:
            pass
    return found


def test_down_leaves_nothing(lab):
    made = lab(3, daemons=False)
    had = namespaces_of(made)
    assert had <= all_namespaces() | had and traces(made.name)
    # What resists an ordinary kill: stopped, traced, frozen, in namespaces of its own.
    freezer = "for d in /sys/fs/cgroup/freezer /sys/fs/cgroup/unified /sys/fs/cgroup; do " \
              "[ -e $d/cgroup.procs ] && mkdir $d/cold 2>/dev/null && " \
              "echo $$ > $d/cold/cgroup.procs && " \
              "{ echo FROZEN > $d/cold/freezer.state || echo 1 > $d/cold/cgroup.freeze; }; done"
    made.popen("n1", ["bash", "-c", f"({freezer}) 2>/dev/null; sleep 1000"])
    made.popen("n2", ["unshare", "-Urpf", "sleep", "1000"])
    made.exec("n3", ["sh", "-c", "sleep 1000 & kill -STOP $!"], stdout=subprocess.DEVNULL,
              stderr=subprocess.DEVNULL)
    made.down()
    assert traces_gone(made.name)
    assert not had & all_namespaces()


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 10, 15, 20, 30, 40, 60, 80, 120])
def test_down_leaves_nothing_after_a_crash_of_up(delay_ms):
    name = new_name()
    process = subprocess.Popen([MOSLAB, "up", "4", "--no-daemons", "--name", name],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay_ms / 1000)
    process.kill()
    process.wait()
    done = run_moslab("down", "--name", name)
    assert done.returncode == 0 or "it is not up" in done.stderr
    assert traces_gone(name)


def test_an_interrupted_up_cleans_up_itself():
    name = new_name()
    process = subprocess.Popen([MOSLAB, "up", "20", "--no-daemons", "--name", name],
                               stderr=subprocess.PIPE, text=True)
    wait_until(lambda: name in lab_names(), what="the lab has begun")
    process.terminate()
    assert process.communicate(timeout=20)[1] == "moslab: interrupted\n"
    assert process.returncode == 1
    assert traces_gone(name)


def test_down_leaves_nothing_after_all_of_the_lab_was_killed(lab):
    made = lab(2, daemons=False)
    nodes = made.status()
    for node in nodes.values():
        os.kill(node["init"], signal.SIGKILL)
    made.down()
    assert traces_gone(made.name)


def test_a_damaged_state_file_is_no_obstacle(lab):
    made = lab(2, daemons=False)
    Path(f"/run/moslab/{made.name}/lab.json").write_text("{")
    made.down()
    assert traces_gone(made.name)


@pytest.mark.parametrize("args, status, error", [
    (["up"], 2, "up: wrong number of arguments; see moslab --help"),
    (["up", "0"], 2, "up: 0: want a number of nodes from 1 to 100"),
    (["up", "2", "--cpus", "1,2,3"], 2,
     "cpus: 1,2,3: want one figure, or one for each of the 2 nodes"),
    (["up", "2", "--mask", "/no/such"], 2, "mask: /no/such: no such directory"),
    (["up", "2", "--name", "a/b"], 2,
     "name: 'a/b': want letters, digits, - and _, at most 32"),
    (["frob"], 2, "frob: no such command; see moslab --help"),
    (["exec", "n1"], 2, "exec: no command to run; want exec NODE -- COMMAND [ARG...]"),
    (["down", "--name", "nobody"], 1, "lab nobody: it is not up"),
])
def test_errors_are_one_line(args, status, error):
    done = run_moslab(*args)
    assert (done.returncode, done.stderr, done.stdout) == (status, f"moslab: {error}\n", "")


def test_a_lab_that_is_up_is_not_made_again(three):
    done = run_moslab("up", 1, "--no-daemons", "--name", three.name)
    assert done.returncode == 1 and "it is up already" in done.stderr
    assert three.out("n3", ["hostname"]) == "n3"

"""A guest touches nothing: what a body tries to reach is its home's, never the remote node's."""

import os
import re
import subprocess
import time

import pytest

from lab import wait_until
from numbered_job import PROGRAMS

USER = 1000
CAP_CHECKPOINT_RESTORE = 40
NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
LISTEN = """
import os, socket
listener = socket.create_server(("0.0.0.0", 9000))
print(os.getpid(), flush=True)
listener.accept()
print("somebody came", flush=True)
"""


class Reacher:
    """programs/reach as a job that is on n2 whenever it is asked to do something."""

    def __init__(self, lab):
        self.lab = lab
        self.process = lab.popen("n1", ["mosrun", PROGRAMS / "reach"], user=USER,
                                 stdin=subprocess.PIPE, bufsize=1)
        self.pid = int(self.process.stdout.readline())

    def go(self):
        """Sends it to n2; it may have gone home to do what it was asked."""
        deadline = time.monotonic() + 30
        while True:
            done = self.lab.exec("n1", ["mosmigrate", self.pid, "n2"], user=USER, check=False)
            if done.returncode == 0 or "is on n2 already" in done.stderr:
                return self
            assert re.search("try again|only just|is being moved", done.stderr), done.stderr
            assert time.monotonic() < deadline, done.stderr

    def do(self, line):
        self.go()
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()

    def at_home(self, line):
        """What it would have been at home all along."""
        self.lab.exec("n1", ["mosmigrate", self.pid, "home"], user=USER, check=False)
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def two(module_lab):
    lab = module_lab(2)
    for node in lab.nodes:
        lab.write(node, f"/var/tmp/only-{node}", f"{node}'s\n")
        lab.write(node, "/var/tmp/both", f"{node}'s\n")
    return lab


@pytest.fixture(scope="module")
def reacher(two):
    made = Reacher(two)
    yield made
    made.process.stdin.close()
    assert made.process.wait(timeout=10) == 0


@pytest.fixture
def body(two, reacher):
    """The body's process on n2, as the host sees it, with its guest: (body, guests)."""
    reacher.go()
    mark = f"moslab-{two.name}/n2/"

    def find(name):
        return [int(d) for d in os.listdir("/proc") if d.isdigit() and read_of(d, "comm") == name
                and mark in read_of(d, "cgroup")]
    bodies = wait_until(lambda: find("reach"), what="a body on n2")
    assert len(bodies) == 1
    return bodies[0], find("guest")


def read_of(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def field(pid, name):
    return re.search(rf"^{name}:[ \t]*(.*)$", read_of(pid, "status"), re.M)[1]


@pytest.mark.parametrize("verb", ["read", "read80", "readx32"])
def test_files_are_homes(two, reacher, verb):
    for name in ("only-n1", "only-n2", "both"):
        path = f"/var/tmp/{name}"
        got = reacher.do(f"{verb} {path}")
        assert "n2's" not in got
        assert got == reacher.at_home(f"{verb} {path}")
    assert reacher.do("read /var/tmp/only-n1") == "read n1's"
    assert reacher.do("read /var/tmp/only-n2") == "ENOENT"
    assert reacher.do("read /etc/drover/drover.conf") == "read node-name = n1"


def test_writes_go_home(two, reacher):
    assert reacher.do("write /tmp/by-reach") == "ok"
    assert two.read("n1", "/tmp/by-reach") == "by reach\n"
    assert two.exec("n2", ["test", "-e", "/tmp/by-reach"], check=False).returncode == 1


def test_ways_round_the_root_lead_home(two, reacher, body):
    """Names in /proc that on the remote node would lead out of the body's empty root."""
    for path in ("/proc/self/root/var/tmp/only-n2", "/proc/self/cwd/../../../../var/tmp/only-n2",
                 "/proc/1/root/var/tmp/only-n2"):
        assert reacher.do(f"read {path}") in ("ENOENT", "EACCES"), path
    assert reacher.do("read /proc/self/root/var/tmp/only-n1") == "read n1's"


def test_the_network_is_homes(two, reacher):
    listener = two.popen("n2", ["/usr/bin/python3", "-c", LISTEN])
    pid = int(listener.stdout.readline())
    assert reacher.do("connect 9000") == "ECONNREFUSED"
    # migrated itself listens on both: home's answers.
    assert reacher.do("connect 7471") == "ok"
    two.exec("n2", ["kill", pid])
    assert "somebody came" not in listener.communicate(timeout=10)[0]


def test_processes_are_homes(two, reacher):
    here = two.popen("n1", ["sh", "-c", "echo $$; exec sleep 11111"], user=USER)
    there = two.popen("n2", ["sh", "-c", "echo $$; exec sleep 22222"], user=USER)
    here.stdout.readline()
    pid = int(there.stdout.readline())
    while two.exec("n1", ["test", "-e", f"/proc/{pid}"], check=False).returncode == 0:
        there = two.popen("n2", ["sh", "-c", "echo $$; exec sleep 22222"], user=USER)
        pid = int(there.stdout.readline())
    wait_until(lambda: two.exec("n2", ["pgrep", "-f", "sleep 22222"], check=False).stdout,
               what="it sleeps")
    assert reacher.do("count sleep 11111") == "1"
    assert reacher.do("count sleep 22222") == "0"
    for verb in ("kill", "tgkill", "attach"):
        assert reacher.do(f"{verb} {pid}") == "ESRCH", verb
    assert there.poll() is None
    # The init of its pid namespace over there is no more to it than home's own.
    assert reacher.do("kill 1") == "EPERM"


def test_it_is_who_and_where_it_was(two, reacher):
    assert reacher.do("name") == "n1"
    assert reacher.do("ids") == f"{reacher.pid} {USER} {USER}"


def test_the_body_has_a_throwaway_uid(two, body):
    pid, guests = body
    for process in (pid, *guests):
        uids = {int(uid) for name in ("Uid", "Gid") for uid in field(process, name).split()}
        assert min(uids) >= 1879048192, f"{process}: {uids}"
        assert field(process, "Groups") in ("", str(min(uids)), str(max(uids)))


def test_the_body_shares_no_namespace_with_the_node(two, body):
    pid, _ = body
    init = two.status()["n2"]["init"]
    for kind in NAMESPACES:
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/{init}/ns/{kind}"), kind


def test_the_body_has_an_empty_root_and_no_way_out(two, body):
    pid, _ = body
    assert os.listdir(f"/proc/{pid}/root/") == []
    assert os.listdir(f"/proc/{pid}/cwd/") == []
    assert os.listdir(f"/proc/{pid}/fd") == []
    mounts = read_of(pid, "mountinfo").splitlines()
    assert len(mounts) <= 1, mounts
    links = read_of(pid, "net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in links] in ([], ["lo"])


def capabilities(pid):
    return {int(field(pid, cap), 16) for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb")}


def test_the_body_is_filtered_and_powerless(two, body):
    pid, _ = body
    assert field(pid, "NoNewPrivs") == "1"
    assert field(pid, "Seccomp") == "2"
    # Forks away need the one; it is good for nothing outside the body's own user namespace.
    assert capabilities(pid) <= {0, 1 << CAP_CHECKPOINT_RESTORE}


def test_its_guest_is_powerless(two, body):
    """Of the two processes the outer one speaks with home, the inner one is the init of the
    body's namespaces and has its capabilities in these only."""
    _, guests = body
    outer, inner = sorted(guests, key=lambda pid: len(field(pid, "NSpid").split()))
    assert capabilities(outer) == {0}
    init = two.status()["n2"]["init"]
    assert os.readlink(f"/proc/{inner}/ns/user") != os.readlink(f"/proc/{init}/ns/user")
    for pid in (outer, inner):
        assert field(pid, "NoNewPrivs") == "1"


def test_its_guest_is_filtered(two, body):
    """The outer one, which speaks with home. What the inner one had, its bodies would inherit."""
    _, guests = body
    outer, inner = sorted(guests, key=lambda pid: len(field(pid, "NSpid").split()))
    assert field(outer, "Seccomp") == "2"
    assert field(inner, "Seccomp") == "0"


def test_its_guest_sees_nothing_of_the_nodes_files(two, body):
    _, guests = body
    outer, inner = sorted(guests, key=lambda pid: len(field(pid, "NSpid").split()))
    assert os.listdir(f"/proc/{outer}/root/") == ["proc"]
    assert os.listdir(f"/proc/{outer}/cwd/") == ["proc"]
    assert os.listdir(f"/proc/{inner}/root/") == []


def test_the_node_sees_of_it_what_it_needs(two, body):
    """Its root can end it like any process, its users can do nothing to it."""
    pid, guests = body
    inner = field(pid, "NSpid").split()
    assert len(inner) >= 3  # of the host, of the node, of its own
    for process in (pid, *guests):
        seen = field(process, "NSpid").split()[1]
        killed = two.exec("n2", ["kill", "-KILL", seen], user=USER, check=False)
        assert "not permitted" in killed.stderr

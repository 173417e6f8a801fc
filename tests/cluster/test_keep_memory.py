"""A process whose memory is kept at home (mosrun --keep-memory) loses no more than its node's work,
as long as nothing that it has done there has had an effect; and never are there two of it."""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest

from computing_job import ComputingJob, CopyingLab, shown
from fault_cases import deafen, names_node
from lab import wait_until

LEASE = 8.0  # seconds: kLease of migrate/lease.h
MARGIN = 1.0  # kMargin of migrate/lease.h
SLACK = 6.0


@pytest.fixture(scope="module")
def shared_lab():
    made = CopyingLab(3, 8)
    yield made
    made.down()


@pytest.fixture(autouse=True)
def never_two_copies(request):
    yield
    for name in ("shared_lab", "wide_lab"):
        if name in request.fixturenames:
            assert request.getfixturevalue(name).seen_twice == []


def kill_guests(fault_lab, node):
    for pid, _ in fault_lab.processes(node, ("guest",)):
        with contextlib.suppress(ProcessLookupError):  # it went with another of them
            os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def host_pid(fault_lab, node, name, pid):
    """Of the program `name` that belongs to the job, as its body or P is its child or tracee."""
    copy = next(copy for copy in fault_lab.copies() if copy.node == node and copy.pid == pid)
    tracer = int(re.search(r"^TracerPid:\s+(\d+)", copy.status(), re.M)[1])
    assert (tracer, name) in fault_lab.processes(node, (name,))
    return tracer


def resident_mb(host_pid):
    status = Path(f"/proc/{host_pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+)", status, re.M)[1]) >> 10


def says_where_it_goes_on(job, node, seconds=r"\d+"):
    error = job.error()
    lines = re.findall(rf"^drover: {job.pid}: {node}, where the process was, is lost: .*: it goes "
                       rf"on at home from where it left, without the work of the last {seconds} s",
                       error, re.M)
    return len(lines) == 1 and error.count("drover:") == 1


def ends_for(job, effect):
    """It cannot go on: it has ended, and its user knows why."""
    assert job.process.wait(timeout=SLACK) == 128 + signal.SIGKILL
    error = job.error()
    why = f"it cannot go on at home: {effect} cannot be undone"
    return names_node(error, job.pid) and why in error


class Wave:
    """Jobs that lose their guests on n2 all at once, and what was seen before, during and after."""

    def __init__(self, fault_lab):
        self.fault_lab, self.lab = fault_lab, fault_lab.lab
        start = lambda name, *args, **kw: ComputingJob(fault_lab, name, *args, **kw)
        self.plain = start("plain", "ballast=64")
        self.threads = start("threads", "threads=5")
        self.signalled = start("signalled")
        self.declares = start("declares")
        self.hops = start("hops")
        self.leaves = start("leaves", "ballast=150")
        self.stopped = start("stopped")
        self.killed = start("killed")
        self.unkept = start("unkept", "ballast=64", options=())
        self.ending = {start("writes", "ballast=64"): "write",
                       start("threaded", "ballast=64"): "clone3",
                       start("told", "ballast=64"): f"signal {int(signal.SIGUSR1)}"}
        self.began = time.monotonic()
        # Moved while they sleep for the first time.
        self.long = start("long", "sleep=20000,1")
        self.short = start("short", "sleep=4000,1000000")
        self.going_on = [self.plain, self.threads, self.signalled, self.declares, self.hops,
                         self.leaves, self.stopped, self.long, self.short]
        self.masks = self.declares.masks()
        self.hops.migrate("n3")
        for job in [self.short, self.long, *self.going_on[:-2], self.killed, *self.ending,
                    self.unkept]:
            job.migrate("n2")
        self.have_effects()
        for job in (self.long, self.short):
            job.want("go")  # for when its first sleep ends at home
        self.loses_its_guest_on_its_way_home(self.leaves)
        self.struck = kill_guests(fault_lab, "n2")

    def have_effects(self):
        assert "if n2 is lost it goes on at home from where it left" in self.plain.why()
        assert self.plain.resident_mb() >= 64 > 16 > self.unkept.resident_mb()
        self.lab.exec("n1", ["kill", "-USR2", self.signalled.pid])
        self.lab.exec("n1", ["kill", "-STOP", self.stopped.pid])
        self.declares.want("declare")
        wait_until(lambda: self.declares.masks() != self.masks, what="its declarations come home")
        self.declares.want("declare", False)
        writes, threaded, told = self.ending
        writes.want("write")
        threaded.want("thread")
        self.lab.exec("n1", ["kill", "-USR1", told.pid])
        for job, effect in self.ending.items():
            wait_until(lambda: job.resident_mb() < 16, what=f"the memory of {effect} is dropped")
            wait_until(lambda: f"it ends: {effect} cannot be undone" in job.why(),
                       what="mosps says so")
        wait_until(lambda: "access" in shown(self.lab, self.short.pid)["calls"],
                   what="the short sleep is over")
        for job in self.going_on:
            assert "if n2 is lost it goes on at home" in job.why()

    def go_on(self):
        for job in self.going_on:
            wait_until(lambda: job.state() in ("home", "stopped", "gone"), what="it goes on",
                       timeout=LEASE + MARGIN + SLACK)
            assert time.monotonic() - self.struck > LEASE + MARGIN - 0.1
        self.gone_on = time.monotonic()

    def loses_its_guest_on_its_way_home(self, job):
        """When a part of its image has come."""
        deputy = host_pid(self.fault_lab, "n1", "deputy", job.pid)
        guest = host_pid(self.fault_lab, "n2", "guest", job.pid)
        homeward = self.lab.popen("n1", ["mosmigrate", job.pid, "home"])
        wait_until(lambda: resident_mb(deputy) > 50, every=0.002, what="the image comes")
        os.kill(guest, signal.SIGKILL)
        _, words = homeward.communicate(timeout=SLACK)
        assert homeward.returncode == 1 and "cannot move to home" in words
        assert job.resident_mb() >= 150


@pytest.fixture(scope="module")
def wave(shared_lab):
    return Wave(shared_lab)


def test_what_has_had_an_effect_ends_with_its_guest(wave):
    for job, effect in wave.ending.items():
        assert ends_for(job, effect)
    assert wave.unkept.process.wait(timeout=SLACK) == 128 + signal.SIGKILL


def test_a_process_that_waits_for_the_end_of_its_body_can_only_be_killed(wave):
    wait_until(lambda: all(job.state() == "resuming" for job in wave.going_on), what="all wait",
               timeout=LEASE)
    refused = wave.plain.migrate("n3", check=False)
    assert "waits for the end of its body on n2, which is lost" in refused.stderr
    wave.lab.exec("n1", ["kill", "-TERM", wave.killed.pid])
    assert wave.killed.process.wait(timeout=SLACK) == 128 + signal.SIGTERM
    assert time.monotonic() < wave.struck + LEASE
    # The next migrated knows it, too.
    wave.lab.stop_daemon("n1")
    wave.fault_lab.faults["n1"] = None
    wave.fault_lab.prepare({})
    assert wave.plain.state() == "resuming"


def test_a_lost_guest_costs_the_work_since_the_move(wave):
    wave.go_on()
    assert wave.declares.masks() == wave.masks
    assert re.search(r"^State:\s+T", wave.stopped.at_home(), re.M)
    wave.lab.exec("n1", ["kill", "-CONT", wave.stopped.pid])
    # A second time, from another node.
    wave.plain.migrate("n3")
    kill_guests(wave.fault_lab, "n3")
    for job in (wave.threads, wave.signalled, wave.declares, wave.hops, wave.leaves,
                wave.stopped):
        steps, pending, _ = job.finish()
        assert steps > 0 and pending == (job is wave.signalled)
        assert says_where_it_goes_on(job, "n2")
    wave.plain.wait_for("home", timeout=LEASE + MARGIN + SLACK)
    wave.plain.finish()
    assert wave.plain.error().count("it goes on at home from where it left") == 2


def test_a_sleep_lasts_as_long_as_it_would_have(wave):
    """Of one that was begun before the move, the rest is known to the kernel at home alone."""
    _, _, ms = wave.short.finish()
    assert ms > 4000 + 1000 * LEASE
    _, _, ms = wave.long.finish()
    # On a slow machine it was over before it could go on.
    wave.go_on()
    assert 20000 <= ms < max(20000, 1000 * (wave.gone_on - wave.began)) + 1000 * SLACK


def test_a_node_that_ends_its_body_itself_is_not_waited_for(shared_lab):
    """Its guest says that nothing of it is left: here because the body has been killed there."""
    job = ComputingJob(shared_lab, "killed-there")
    job.migrate("n2")
    body = next(copy for copy in shared_lab.copies() if copy.node == "n2")
    began = time.monotonic()
    os.kill(body.host_pid, signal.SIGKILL)
    job.wait_for("home", timeout=SLACK)
    assert time.monotonic() < began + LEASE
    job.finish()
    assert says_where_it_goes_on(job, "n2")


def test_a_daemon_that_dies_costs_nothing_and_a_deputy_the_process(shared_lab):
    job = ComputingJob(shared_lab, "daemons")
    job.migrate("n2")
    shared_lab.stop_daemon("n2")
    deputy = ComputingJob(shared_lab, "deputy")
    deputy.migrate("n3")
    os.kill(host_pid(shared_lab, "n1", "deputy", deputy.pid), signal.SIGKILL)
    assert deputy.process.wait(timeout=SLACK) == 128 + signal.SIGKILL
    wait_until(lambda: "was lost: its deputy died (signal 9) while it was on n3" in deputy.error(),
               what="its user is told")
    shared_lab.faults["n2"] = None
    shared_lab.prepare({})
    assert job.state() == "away"
    job.migrate("home")
    job.finish()
    assert job.error() == ""


def test_a_hop_that_loses_its_guests_costs_the_work_since_the_outbound(shared_lab):
    """One loses both while its image is on its way; the other only its target, of which home cannot
    know whether it has let the body run: that one stays where it was."""
    shared_lab.prepare({"n2": "guest.leave.connected:delay=1500",
                        "n3": "guest.image.committed:delay=1500"})
    lost, stays = (ComputingJob(shared_lab, name) for name in ("hop-lost", "hop-stays"))
    lost.migrate("n2")
    movers = [start_hop(shared_lab, lost, "n2", "guest.leave.connected")]
    kill_guests(shared_lab, "n2")
    kill_guests(shared_lab, "n3")
    stays.migrate("n2")
    movers.append(start_hop(shared_lab, stays, "n3", "guest.image.committed"))
    kill_guests(shared_lab, "n3")
    for mover in movers:
        assert mover.wait(timeout=LEASE + 2 * MARGIN + SLACK) == 1
    lost.wait_for("home", timeout=LEASE + MARGIN + SLACK)
    assert stays.state() == "away" and "if n2 is lost it goes on at home" in stays.why()
    lost.finish()
    assert says_where_it_goes_on(lost, "n2")
    stays.finish()
    assert stays.error() == ""
    shared_lab.prepare({})


def start_hop(fault_lab, job, node, step):
    """To n3; it is at that step of the node's."""
    mover = fault_lab.lab.popen("n1", ["mosmigrate", job.pid, "n3"])
    wait_until(lambda: f"{step}: " in fault_lab.log(node).read_text(), what=step)
    return mover


@pytest.fixture(scope="module")
def wide_lab():
    made = CopyingLab(8, 30)
    made.prepare({"n6": "guest.leave.asked:delay=40000"})
    yield made
    made.down()


def test_a_node_that_is_not_heard_costs_the_work_since_the_move(wide_lab):
    """Whatever its reason: the node is dead, the link is cut in one direction or both and heals
    late, its guest hangs, or it is not to be trusted."""
    lab = wide_lab.lab
    kill = ("--keep-memory", "--on-loss=kill")
    of = {node: ComputingJob(wide_lab, node, options=kill) for node in lab.nodes[1:]}
    held = ComputingJob(wide_lab, "held")
    writes = ComputingJob(wide_lab, "writes", options=kill)
    for node, job in of.items():
        job.migrate(node)
    held.migrate("n5")
    writes.migrate("n2")
    writes.want("write")
    wait_until(lambda: "write cannot be undone" in writes.why(), what="it has had an effect")

    # The guest hangs for longer than its lease, with its body running.
    hangs = lab.popen("n1", ["mosmigrate", of["n6"].pid, "home"])
    wait_until(lambda: "guest.leave.asked: " in wide_lab.log("n6").read_text(), what="it hangs")
    lab.kill("n2")
    deafen(lab, "n1", "n3")
    deafen(lab, "n4", "n1")
    for node in ("n5", "n6", "n8"):
        lab.cut("n1", node)
    # The last one does not hear that home breaks off: it runs on for as long as it may.
    revoked = [of["n7"], of["n8"]]
    for node in ("n7", "n8"):
        lab.exec("n1", ["mosctl", "revoke", node])
    struck = time.monotonic()
    for job in revoked:
        job.wait_for("resuming", timeout=SLACK)
    wait_until(lambda: not wide_lab.processes("n7", ("computes",)), what="it has heard that")
    assert wide_lab.processes("n8", ("computes",))

    for job in (of["n2"], of["n3"], of["n4"], of["n5"]):
        job.wait_for("resuming", timeout=LEASE + SLACK)
    held.wait_for("held")
    assert ends_for(writes, "write")
    lab.heal("n1", "n5")  # home has given up, its guest's lease is not over
    held.wait_for("away", timeout=20)
    for node, job in of.items():
        job.wait_for("home", timeout=2 * LEASE + MARGIN + SLACK)
        took = time.monotonic() - struck
        assert took > (LEASE if job in revoked else 2 * LEASE - 1)
    hangs.communicate(timeout=SLACK)
    for node in ("n6", "n8"):
        lab.heal("n1", node)
    for node in ("n1", "n3"):
        lab.exec(node, ["ip", "neigh", "flush", "all", "nud", "permanent"])
    for node, job in of.items():
        job.finish()
        assert says_where_it_goes_on(job, node)
    # Of the one whose node was heard again nothing was lost.
    held.finish()
    assert held.error() == ""
    wait_until(lambda: not wide_lab.processes("n5", ("computes", "guest")), timeout=40,
               what="nothing is left there")

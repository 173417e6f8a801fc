"""A migrated that stops, is killed or upgraded, and is started again, serves its jobs and guests
on as if nothing had been."""

import json
import os
import signal
import subprocess

import pytest

from fault_cases import FaultLab
from lab import Lab, wait_until
from numbered_job import NumberedJob

# What does not change while a job is left alone.
SAME = ("job", "pid", "uid", "home", "where", "state", "moves", "failed_moves", "epoch", "command",
        "never_automatic")
SAME_GUEST = ("job", "home", "uid", "pid", "state", "supervisor", "epoch")
RECORDS = "/run/drover/records"


def jobs(lab, node="n1", *options):
    return json.loads(lab.out(node, ["mosps", "--json", *options]))


def row(lab, pid, node="n1"):
    """What mosps says of a job, or nothing."""
    return next((one for one in jobs(lab, node) if one["pid"] == int(pid)), None)


def guests(lab, node):
    return jobs(lab, node, "--guests")


def part(entry, names):
    return {name: entry[name] for name in names}


def served(entry):
    return sum(call["served"] for call in entry["calls"].values())


def stop(lab, nodes, how="KILL"):
    for node in nodes:
        lab.stop_daemon(node, how)


def start(lab, nodes):
    for node in nodes:
        lab.start_daemon(node)


def found(lab, node, argv):
    return lab.exec(node, argv, check=False).stdout.split()


def what_is_left(lab):
    """Programs, groups and records of jobs and guests on all nodes."""
    left = []
    for node in lab.nodes:
        left += [f"{node}: deputy or guest {pid}"
                 for pid in found(lab, node, ["pgrep", "-x", "deputy|guest|numbers"])]
        left += [f"{node}: {path}" for path in found(
            lab, node, ["find", "/sys/fs/cgroup", "-type", "d", "-path", "*/drover-guests/*"])]
        left += [f"{node}: {path}" for path in found(
            lab, node, ["find", f"{RECORDS}/jobs", f"{RECORDS}/guests", "-type", "f",
                        "!", "-name", "boot"])]
    return left


def nothing_is_left(lab):
    try:
        wait_until(lambda: not what_is_left(lab), timeout=20, every=0.2, what="nothing left")
    except TimeoutError:
        pytest.fail(f"left: {what_is_left(lab)}")


@pytest.fixture(scope="module")
def shared(module_lab):
    return module_lab(3)


@pytest.mark.parametrize("how", ["KILL", "TERM"])
@pytest.mark.parametrize("who", [["n1"], ["n2"], ["n1", "n2"]], ids="-".join)
def test_a_job_that_is_away_is_found_again(shared, how, who):
    job = NumberedJob(shared, options=["-l"])
    job.migrate("n2")
    job.migrate("home")
    job.migrate("n2")
    job.progress()
    wait_until(lambda: row(shared, job.pid)["calls"], what="calls are counted")
    wait_until(lambda: guests(shared, "n2")[0]["state"] == "running", what="the guest reports")
    before, guest_before = row(shared, job.pid), guests(shared, "n2")[0]

    stop(shared, who, how)
    job.progress(100)
    start(shared, who)
    after = row(shared, job.pid)
    assert part(after, SAME) == part(before, SAME)
    assert [part(one, SAME_GUEST) for one in guests(shared, "n2")] == [
        part(guest_before, SAME_GUEST)]
    wait_until(lambda: served(row(shared, job.pid)) > served(before), what="calls are counted on")

    for target in ("n3", "n2", "home", "n3"):
        job.migrate(target)
        job.progress()
    assert row(shared, job.pid)["moves"] == before["moves"] + 4
    job.finish()
    wait_until(lambda: row(shared, job.pid) is None, what="its end is noticed")
    ended = [one for one in jobs(shared, "n1", "--ended") if one["job"] == before["job"]]
    assert ended and ended[0]["moves"] == before["moves"] + 4
    nothing_is_left(shared)


def test_a_job_at_home_is_known_with_its_options(shared):
    job = NumberedJob(shared, options=["-l", "-m", "3"])
    job.progress(1)  # the shell has become the program
    before = row(shared, job.pid)
    stop(shared, ["n1"])
    start(shared, ["n1"])
    assert part(row(shared, job.pid), SAME) == part(before, SAME)
    job.migrate("n2")
    job.migrate("home")
    job.finish()
    nothing_is_left(shared)


def test_an_end_while_there_is_no_migrated_is_noticed(shared):
    """Both of one at home and of one that is away, whose guest's node has none either."""
    away, at_home = NumberedJob(shared), NumberedJob(shared)
    away.migrate("n2")
    identity = row(shared, away.pid)["job"]
    stop(shared, ["n1", "n2"])
    away.finish()
    at_home.finish()
    start(shared, ["n1", "n2"])
    wait_until(lambda: not jobs(shared), what="no jobs")
    ended = {one["job"]: one for one in jobs(shared, "n1", "--ended")}
    assert ended[identity]["moves"] == 1 and ended[identity]["wait_status"] == 0
    nothing_is_left(shared)


def test_a_guest_that_ends_while_there_is_no_migrated_is_cleared_away(shared):
    job = NumberedJob(shared)
    job.migrate("n2")
    stop(shared, ["n2"])
    job.migrate("home")
    wait_until(lambda: not found(shared, "n2", ["pgrep", "-x", "guest"]), what="the guest ends")
    assert found(shared, "n2", ["find", f"{RECORDS}/guests", "-name", "uid-*"])
    start(shared, ["n2"])
    wait_until(lambda: not guests(shared, "n2"), what="no guests")
    job.migrate("n2")
    job.progress()
    job.finish()
    nothing_is_left(shared)


def test_a_process_that_comes_home_while_there_is_no_migrated_is_at_home(shared):
    job = shared.popen("n1", ["mosrun", "sh", "-c", "echo $$; read go; exec sleep 1000"],
                       stdin=subprocess.PIPE)
    pid = job.stdout.readline().strip()
    shared.exec("n1", ["mosmigrate", pid, "n2"])
    stop(shared, ["n1"])
    job.stdin.write("go\n")
    job.stdin.flush()
    wait_until(lambda: shared.out("n1", ["cat", f"/proc/{pid}/comm"]) == "sleep", what="it execs")
    start(shared, ["n1"])
    wait_until(lambda: row(shared, pid)["state"] == "home", what="it is at home")
    assert part(row(shared, pid), ("where", "moves")) == {"where": "n1", "moves": 2}
    wait_until(lambda: shared.exec("n1", ["mosmigrate", pid, "n2"], check=False).returncode == 0,
               what="it moves again")
    shared.exec("n1", ["kill", pid])
    assert job.wait(timeout=10) == 128 + signal.SIGTERM
    nothing_is_left(shared)


def test_a_deputy_that_dies_after_a_restart_is_missed(shared):
    job = NumberedJob(shared)
    job.migrate("n2")
    stop(shared, ["n1"])
    start(shared, ["n1"])
    shared.exec("n1", ["pkill", "-KILL", "-x", "deputy"])
    assert job.process.wait(timeout=10) == 128 + signal.SIGKILL
    wait_until(lambda: f"{job.pid}: was lost" in job.error, what="its user is told")
    wait_until(lambda: not jobs(shared), what="no jobs")
    job.join()
    nothing_is_left(shared)


@pytest.mark.parametrize("node,program", [("n1", "deputy"), ("n2", "guest")])
def test_a_program_that_dies_while_there_is_no_migrated_leaves_nothing(shared, node, program):
    job = NumberedJob(shared)
    job.migrate("n2")
    stop(shared, ["n1", "n2"])
    shared.exec(node, ["pkill", "-KILL", "-x", program])
    assert job.process.wait(timeout=15) == 128 + signal.SIGKILL
    job.join()
    start(shared, ["n1", "n2"])
    wait_until(lambda: not jobs(shared), what="no jobs")
    nothing_is_left(shared)


def test_a_hop_from_a_node_without_a_migrated_is_no_move(shared):
    """The guest there has nobody to connect it: said soon, and the process runs on."""
    job = NumberedJob(shared)
    job.migrate("n2")
    stop(shared, ["n2"])
    done = job.migrate("n3", check=False, timeout=15)
    assert done.returncode == 1 and "migrated is gone" in done.stderr, done.stderr
    job.progress()
    start(shared, ["n2"])
    job.migrate("n3")
    job.progress()
    job.finish()
    nothing_is_left(shared)


@pytest.mark.parametrize("who,other", [("n1", "n2"), ("n2", "n1")], ids=["guest", "home"])
def test_who_was_revoked_while_there_was_no_migrated_is_not_trusted(lab, who, other):
    """A job that is on a revoked node comes home; the guest of a revoked home is ended."""
    made = lab(2, trees=False)
    job = NumberedJob(made)
    job.migrate("n2")
    stop(made, [who])
    made.out("n1", ["mosctl", "revoke", other])
    if who != "n1":
        made.write(who, "/etc/drover/members", made.read("n1", "/etc/drover/members"))
    start(made, [who])
    if who == "n1":
        wait_until(lambda: row(made, job.pid)["state"] == "home", what="it is at home")
        job.progress()
        job.finish()
    else:
        assert job.process.wait(timeout=15) == 128 + signal.SIGKILL
        job.join()
    nothing_is_left(made)


def test_twenty_restarts_under_a_job_that_moves(shared):
    job = NumberedJob(shared)
    for i in range(20):
        who = ["n1"] if i % 2 else ["n2", "n3"] if i % 4 else ["n1", "n2", "n3"]
        mover = shared.popen("n1", ["mosmigrate", job.pid, ("n2", "n3", "home")[i % 3]])
        if i % 5:
            mover.wait(timeout=30)  # at rest, mostly
        stop(shared, who, ("KILL", "TERM")[i // 2 % 2])
        start(shared, who)
        mover.communicate(timeout=30)
        wait_until(lambda: row(shared, job.pid)["state"] in ("home", "away"), timeout=30,
                   what="no move is under way")
        job.progress()
    job.migrate("home") if row(shared, job.pid)["state"] == "away" else None
    job.migrate("n2")
    job.finish()
    nothing_is_left(shared)


def test_one_content_keeper_and_one_only(shared):
    job = NumberedJob(shared)
    for how in ("KILL", "TERM"):
        job.migrate("n2")
        stop(shared, ["n2"], how)
        wait_until(lambda: not found(shared, "n2", ["pgrep", "-x", "contentd"]),
                   what="the cache's keeper ends with its migrated")
        start(shared, ["n2"])
        job.migrate("home")
        job.migrate("n2")
        assert len(found(shared, "n2", ["pgrep", "-x", "contentd"])) == 1
        job.migrate("home")
    job.finish()
    nothing_is_left(shared)


def test_a_second_migrated_is_refused_and_disturbs_nothing(shared):
    job = NumberedJob(shared)
    job.migrate("n2")
    second = shared.exec("n1", ["migrated"], check=False)
    pid = shared.out("n1", ["pgrep", "-x", "migrated"])
    assert second.returncode == 1
    assert second.stderr == (f"migrated: /run/drover: another migrated works here already, "
                             f"process {pid}\n")
    job.migrate("home")
    job.finish()
    nothing_is_left(shared)


def test_only_root_can_read_what_is_written_down(shared):
    job = NumberedJob(shared)
    modes = shared.out("n1", ["sh", "-c", f"cd {RECORDS} && stat -c '%U %a' jobs jobs/*"])
    assert set(modes.splitlines()) == {"root 700", "root 600"}
    job.finish()


# Steps at which a daemon goes: the move, whose daemon, and who takes the step.
MIDDLES = [
    ("out", "deputy.outbound.connected"), ("out", "deputy.outbound.frozen"),
    ("out", "deputy.outbound.commit-sent"), ("out", "deputy.outbound.memory-dropped"),
    ("out", "guest.image.laid-out"), ("out", "guest.image.ready-sent"),
    ("out", "migrated.home.linked"), ("out", "migrated.home.dialled"),
    ("out", "migrated.target.placed"), ("out", "migrated.target.channel"),
    ("home", "deputy.home.recalled"), ("home", "deputy.home.resumed"),
    ("home", "guest.leave.frozen"),
    ("hop", "deputy.hop.connected"), ("hop", "deputy.hop.ordered"), ("hop", "deputy.hop.running"),
    ("hop", "guest.leave.frozen"), ("hop", "guest.image.pages-taken"),
    ("hop", "migrated.home.prepared"),
]


@pytest.fixture(scope="module")
def fault_lab():
    made = FaultLab()
    yield made
    made.lab.down()


@pytest.mark.matrix
@pytest.mark.parametrize("who", [("n1",), ("n2", "n3"), ("n1", "n2", "n3")], ids="-".join)
@pytest.mark.parametrize("move,point", MIDDLES)
def test_a_move_that_is_under_way_ends_and_its_outcome_is_known(fault_lab, move, point, who):
    """The daemons of some nodes die in the middle of a move and are started again."""
    lab = fault_lab.lab
    fault_lab.prepare(dict.fromkeys(lab.nodes, f"{point}:delay=600"))
    job = NumberedJob(lab, every_ms=5)
    if move != "out":
        job.migrate("n2")
    for node in lab.nodes:
        os.truncate(fault_lab.log(node), 0)
    target = {"out": "n2", "home": "home", "hop": "n3"}[move]
    mover = lab.popen("n1", ["mosmigrate", job.pid, target])
    hit = f"fault point {point}: "
    wait_until(lambda: any(hit in fault_lab.log(node).read_text() for node in lab.nodes),
               what=hit)
    for node in who:
        fault_lab.stop_daemon(node)
    fault_lab.prepare({})
    mover.communicate(timeout=30)
    job.progress(10, timeout=25)
    settled = wait_until(lambda: (one := row(lab, job.pid))["state"] in ("home", "away") and one,
                         timeout=30, what="no move is under way")
    where = fault_lab.where_it_runs()
    assert settled["where"] == {"home": "n1"}.get(where, where)
    assert where in (target, "home" if move == "out" else "n2")
    expected = [settled["where"]] if settled["state"] == "away" else []
    wait_until(lambda: [node for node in lab.nodes for _ in guests(lab, node)] == expected,
               timeout=35, what="guests where bodies are, and nowhere else")
    for place in ("n3", "home", "n2"):
        if row(lab, job.pid)["where"] != {"home": "n1"}.get(place, place):
            job.migrate(place)
            job.progress(5)
    job.finish()
    nothing_is_left(lab)

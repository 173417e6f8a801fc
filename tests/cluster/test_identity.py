"""Who may do what: users, root, nodes, zones."""

import json
import re

import pytest

from fault_cases import FaultLab
from lab import wait_until
from numbered_job import NumberedJob

OWNER, OTHER = 1000, 1001
NOT_YOURS = "another user may not move this job: Operation not permitted"


@pytest.fixture(scope="module")
def three(module_lab):
    return module_lab(3)


def refused(lab, pid, target, user, node="n1"):
    """The reason that mosmigrate gives, in one line."""
    done = lab.exec(node, ["mosmigrate", pid, target], user=user, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    line = re.fullmatch(rf"mosmigrate: {pid}: cannot move to {target}: (.*)\n", done.stderr)
    assert line, done.stderr
    return line[1]


def jobs(lab, user, *options):
    return json.loads(lab.out("n1", ["mosps", "--json", *options], user=user))


def test_an_ordinary_users_job_goes_round_and_stays_theirs(three):
    job = NumberedJob(three, "/var/tmp/identity", user=OWNER)
    for target in ("n2", "home", "n2", "n3", "n2", "home"):
        job.migrate(target, user=OWNER)
        job.progress(5)
        seen = [one for one in jobs(three, OWNER) if one["pid"] == job.pid]
        assert [one["where"] for one in seen] == ["n1" if target == "home" else target]
        assert seen[0]["uid"] == OWNER
    status = three.read("n1", f"/proc/{job.pid}/status")
    assert re.search(rf"^Uid:\s+{OWNER}\s+{OWNER}\s+{OWNER}\s+{OWNER}$", status, re.M)
    job.finish()
    # What it made at home is its user's, whether made before or while it was away.
    assert three.out("n1", ["stat", "-c", "%u", "/var/tmp/identity"]) == str(OWNER)


@pytest.fixture
def away(three):
    job = NumberedJob(three, user=OWNER)
    job.migrate("n2", user=OWNER)
    yield job
    job.progress(5)
    job.finish()


def test_another_user_moves_sees_and_signals_nothing(three, away):
    other = NumberedJob(three, user=OTHER)
    # Not theirs and not there look the same.
    for pid in (away.pid, 4000000):
        for target in ("home", "n3"):
            assert refused(three, pid, target, OTHER) == NOT_YOURS
    for pid in (away.pid, 4000000):
        why = three.exec("n1", ["mosps", "--why", pid], user=OTHER, check=False)
        assert why.returncode == 1
        assert why.stderr == (f"mosps: {pid}: another user may not see this job: "
                              "Operation not permitted\n")
    assert [one["pid"] for one in jobs(three, OTHER)] == [other.pid]
    assert [one["pid"] for one in jobs(three, OWNER)] == [away.pid]
    for pid in (away.pid, 4000000):
        assert pid not in [one["pid"] for one in jobs(three, OTHER, "--ended")]
    signalled = three.exec("n1", ["kill", "-TERM", away.pid], user=OTHER, check=False)
    assert "not permitted" in signalled.stderr
    for path in ("mem", "environ", "maps"):
        read = three.exec("n1", ["cat", f"/proc/{away.pid}/{path}"], user=OTHER, check=False)
        assert read.stdout == ""
    # Root of its home sees and moves both.
    assert {one["pid"] for one in jobs(three, 0)} == {away.pid, other.pid}
    other.finish()


def test_the_same_uid_elsewhere_is_somebody_else(three, away):
    """uid 1000 of n2 is not uid 1000 of n1, although the body is on n2."""
    assert refused(three, away.pid, "home", OWNER, node="n2") == NOT_YOURS
    wait_until(lambda: guests(three, "n2"), what="the guest is listed")
    guest = guests(three, "n2")[0]
    for pid in (guest["supervisor"], body_pid(three, "n2")):
        killed = three.exec("n2", ["kill", "-KILL", pid], user=OWNER, check=False)
        assert "not permitted" in killed.stderr
        for path in ("mem", "environ", "maps", "root/", "fd/"):
            read = three.exec("n2", ["ls" if path.endswith("/") else "cat", f"/proc/{pid}/{path}"],
                              user=OWNER, check=False)
            assert read.stdout == "" and read.returncode != 0, path


def test_a_deputy_is_nobodys_to_touch(three, away):
    deputies = three.out("n1", ["pgrep", "-x", "deputy"]).split()
    assert len(deputies) == 1
    for user in (OWNER, OTHER):
        killed = three.exec("n1", ["kill", "-KILL", deputies[0]], user=user, check=False)
        assert "not permitted" in killed.stderr
        read = three.exec("n1", ["cat", f"/proc/{deputies[0]}/environ"], user=user, check=False)
        assert read.stdout == "" and read.returncode != 0


def guests(lab, node):
    return json.loads(lab.out(node, ["mosps", "--guests", "--json"]))


def body_pid(lab, node):
    return int(lab.out(node, ["pgrep", "-x", "numbers"]))


def test_roots_jobs_stay_where_they_are_unless_allowed(lab):
    made = lab(2, trees=False)
    made.write("n1", "/etc/drover/drover.conf", "node-name = n1\n")
    restart_daemon(made, "n1")
    job = NumberedJob(made)
    assert refused(made, job.pid, "n2", 0) == (
        "declined: is a job of root, which this node does not allow (allow-root-jobs)")
    why = json.loads(made.out("n1", ["mosps", "--json", "--why", job.pid]))
    assert not why["can_move"] and "allow-root-jobs" in why["reasons"][0]
    job.finish()


def restart_daemon(lab, node):
    pid = lab.out(node, ["pgrep", "-x", "migrated"])
    lab.exec(node, ["sh", "-c", f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.02; done"])
    lab.popen(node, ["sh", "-c", "exec migrated >>/var/log/drover/migrated.log 2>&1"])
    wait_until(lambda: lab.exec(node, ["mosps"], check=False).returncode == 0, what="migrated")


def test_only_nodes_of_the_list_and_of_trusted_zones(lab):
    made = lab(3, trees=False)
    job = NumberedJob(made, user=OWNER)
    assert refused(made, job.pid, "n9", OWNER) == "n9 is not a node of the cluster"

    # n3 is moved into a zone of its own, which n1 does not send its jobs to.
    made.write("n3", "/etc/drover/drover.conf", "node-name = n3\nzone = rented\n")
    key = made.out("n3", ["mosctl", "--address", "10.77.0.3", "key"])
    made.out("n1", ["mosctl", "add", key])
    spread_list(made, "n2", "n3")
    assert refused(made, job.pid, "n3", OWNER) == (
        "n3 is in the zone rented, to which own jobs are not sent (send-zones)")

    # n1 would, but n3 takes no guests of that zone: both must agree.
    made.write("n1", "/etc/drover/drover.conf",
               "node-name = n1\nsend-zones = default, rented\n")
    job.finish()
    restart_daemon(made, "n1")
    restart_daemon(made, "n3")
    job = NumberedJob(made, user=OWNER)
    assert refused(made, job.pid, "n3", OWNER) == "n3 takes no guests from the zone default"
    made.write("n3", "/etc/drover/drover.conf",
               "node-name = n3\nzone = rented\nguest-zones = default\n")
    restart_daemon(made, "n3")
    job.migrate("n3", user=OWNER)
    job.progress(5)

    # A rented node orders nobody about: its own jobs are not taken.
    theirs = NumberedJob(made, user=OWNER, node="n3")
    assert "zone" in refused(made, theirs.pid, "n1", OWNER, node="n3")
    theirs.finish()
    job.finish()


def spread_list(lab, *nodes):
    text = lab.read("n1", "/etc/drover/members")
    serial = json.loads(lab.out("n1", ["mosctl", "nodes", "--json"])).get("serial")
    for node in nodes:
        lab.write(node, "/etc/drover/members", text)
    for node in ("n1", *nodes):
        wait_until(lambda: f"membership list {serial}: " in lab.read(
            node, "/var/log/drover/migrated.log"), what=f"list {serial} on {node}")


def test_a_revoked_nodes_guests_go_home_and_it_is_heard_no_more(lab):
    made = lab(3, trees=False)
    job = NumberedJob(made, user=OWNER)
    job.migrate("n2", user=OWNER)
    old_list = made.read("n1", "/etc/drover/members")
    made.out("n1", ["mosctl", "revoke", "n2"])
    spread_list(made, "n3")
    wait_until(lambda: jobs(made, OWNER)[0]["where"] == "n1", what="it is at home")
    job.progress(5)
    assert refused(made, job.pid, "n2", OWNER) == "n2 has been revoked"
    job.migrate("n3", user=OWNER)
    job.progress(5)
    job.finish()

    # n2 itself still goes by the old list; the others do not speak with it any more.
    theirs = NumberedJob(made, user=OWNER, node="n2")
    assert refused(made, theirs.pid, "n3", OWNER, node="n2")
    theirs.progress(5)
    theirs.finish()

    # An older list with a good signature does not bring it back.
    made.write("n1", "/etc/drover/members", old_list)
    made.write("n3", "/etc/drover/members", old_list)
    for node in ("n1", "n3"):
        wait_until(lambda: "membership list not used" in made.read(
            node, "/var/log/drover/migrated.log"), what="the old list is refused")
    job = NumberedJob(made, user=OWNER)
    assert refused(made, job.pid, "n2", OWNER) == "n2 has been revoked"
    job.migrate("n3", user=OWNER)
    job.finish()


@pytest.fixture
def fault_lab():
    made = FaultLab()
    yield made
    made.lab.down()


def start_move(fault_lab, job, target, node, step):
    """Asks for a move; returns when it is held up at the step."""
    mover = fault_lab.lab.popen("n1", ["mosmigrate", job.pid, target])
    wait_until(lambda: f"fault point {step}: " in fault_lab.log(node).read_text(), what=step)
    return mover


def where(lab, job):
    seen = next(one for one in json.loads(lab.out("n1", ["mosps", "--json"]))
                if one["pid"] == job.pid)
    return seen["where"], seen["state"]


def test_a_move_to_a_node_that_is_revoked_meanwhile_fails(fault_lab):
    fault_lab.prepare({"n2": "migrated.target.asked:delay=3000"})
    job = NumberedJob(fault_lab.lab)
    mover = start_move(fault_lab, job, "n2", "n2", "migrated.target.asked")
    fault_lab.lab.out("n1", ["mosctl", "revoke", "n2"])
    _, words = mover.communicate(timeout=2)
    assert words == f"mosmigrate: {job.pid}: cannot move to n2: n2 is not trusted any more\n"
    assert where(fault_lab.lab, job) == ("n1", "home")
    job.progress(10)
    job.finish()


@pytest.mark.parametrize("before, target, fault", [
    ([], "n2", "deputy.outbound.frozen:delay=2500"),
    (["n3"], "n2", "deputy.hop.ordered:delay=2500"),
    (["n2"], "n3", "deputy.hop.connected:delay=2500,deputy.hop.ready:fail"),
], ids=["out", "hop to it", "failed hop from it"])
def test_a_job_on_the_way_to_or_from_a_node_that_is_revoked_comes_home(fault_lab, before, target,
                                                                       fault):
    fault_lab.prepare({"n1": fault})
    lab = fault_lab.lab
    job = NumberedJob(lab)
    for node in before:
        job.migrate(node)
    mover = start_move(fault_lab, job, target, "n1", fault.split(":")[0])
    lab.out("n1", ["mosctl", "revoke", "n2"])
    mover.communicate(timeout=20)
    wait_until(lambda: where(lab, job) == ("n1", "home"), what="it is at home")
    job.progress(10)
    job.finish()
    assert job.error == ""


def test_a_list_that_nobody_signed_is_not_used(lab):
    made = lab(2, trees=False)
    forged = made.read("n1", "/etc/drover/members").replace("n2", "n7")
    made.write("n1", "/etc/drover/members", forged)
    wait_until(lambda: "membership list not used" in made.read(
        "n1", "/var/log/drover/migrated.log"), what="the forged list is refused")
    job = NumberedJob(made, user=OWNER)
    assert refused(made, job.pid, "n7", OWNER) == "n7 is not a node of the cluster"
    job.migrate("n2", user=OWNER)
    job.progress(5)
    job.finish()

"""Nodes of two versions of the protocol in one cluster: jobs move among them all."""

import json

import pytest

from lab import wait_until
from numbered_job import NumberedJob

CONF = "/etc/drover/drover.conf"


def restart(lab, node, newest):
    """Gives a node's migrated another newest version, its jobs and guests living on."""
    lab.stop_daemon(node, "TERM")
    lab.exec(node, ["sed", "-i", "/^newest-protocol/d", CONF])
    lab.exec(node, ["sh", "-c", f"echo newest-protocol = {newest} >> {CONF}"])
    lab.start_daemon(node)


def spoken(lab, node):
    """The version on the channel of every guest that this node has had, in their order."""
    log = lab.read(node, "/var/log/drover/migrated.log")
    return [int(line.rsplit(" ", 1)[1]) for line in log.splitlines() if "place prepared" in line]


def protocols(lab, node):
    listed = json.loads(lab.out(node, ["mosctl", "nodes", "--json"]))["nodes"]
    return {one["name"]: one["protocol"] for one in listed}


@pytest.fixture(scope="module")
def shared(module_lab):
    """n2 is of the version before."""
    lab = module_lab(3, trees=False)
    restart(lab, "n2", 1)
    return lab


@pytest.mark.parametrize("home", ["n1", "n2"])
def test_a_job_goes_among_nodes_of_both_versions(shared, home):
    others = [node for node in shared.nodes if node != home]
    job = NumberedJob(shared, node=home)
    for target in (*others, "home", *reversed(others), others[1], others[0], "home"):
        job.migrate(target)
        job.progress()
    job.finish()
    for node in others:
        both_new = "n2" not in (home, node)
        assert set(spoken(shared, node)[-3:]) == {2 if both_new else 1}


def test_what_nodes_speak_is_shown(shared):
    job = NumberedJob(shared)
    job.migrate("n2")
    assert protocols(shared, "n1")["n1"] == [1, 2]
    assert protocols(shared, "n1")["n2"] == [1, 1]
    table = shared.out("n1", ["mosctl", "nodes"]).splitlines()
    assert "PROTOCOL" in table[0] and " 1-2 " in table[1] and " 1 " in table[2]
    job.finish()


def test_a_node_is_upgraded_and_taken_back_with_jobs_and_guests(shared):
    """Both its own job, which is away, and a guest of another node go on, and move on."""
    own, guest = NumberedJob(shared, node="n2"), NumberedJob(shared)
    for newest in (2, 1):
        own.migrate("n3")
        guest.migrate("n2")
        restart(shared, "n2", newest)
        for target in ("n1", "n3", "home"):
            own.migrate(target)
            own.progress()
            guest.migrate("n3" if target == "n1" else "n2" if target == "n3" else "home")
            guest.progress()
        assert spoken(shared, "n1")[-1] == newest
    own.finish()
    guest.finish()
    wait_until(lambda: all(not json.loads(shared.out(node, ["mosps", "--json", "--guests"]))
                           for node in shared.nodes), what="no guest is left")


def test_what_the_version_before_cannot_carry_stays_where_it_is(shared):
    """A program that has been told its CPU time away would see it step back."""
    job = shared.popen("n1", ["mosrun", "python3", "-uc", "import os, time\nprint(os.getpid())\n"
                              "while True: time.process_time(), time.sleep(.02)"])
    pid = job.stdout.readline().strip()

    def row():
        return json.loads(shared.out("n1", ["mosps", "--json"]))[0]

    def migrate(target):
        return shared.exec("n1", ["mosmigrate", pid, target], check=False)

    assert migrate("n3").returncode == 0
    wait_until(lambda: row()["calls"].get("clock_gettime", {}).get("served"), what="it is told")
    done = migrate("n2")
    assert done.returncode == 1
    assert done.stderr.endswith("cannot move to n2: version 1 of the protocol, which is spoken on "
                                "the way, cannot carry the CPU time that the program has been "
                                "told of\n")
    assert (row()["where"], row()["state"]) == ("n3", "away")
    for target in ("home", "n2"):  # without that time to carry
        wait_until(lambda: migrate(target).returncode == 0, what=f"it moves to {target}")
    shared.exec("n1", ["kill", pid])

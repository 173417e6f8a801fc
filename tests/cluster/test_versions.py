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

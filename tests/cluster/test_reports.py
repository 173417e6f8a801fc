"""What home knows of a body that is away."""

import json
import subprocess

import pytest

from fault_cases import FaultLab
from lab import wait_until

BLOCK = 64 << 20
GROWS = f"""
import os, sys
print(os.getpid(), flush=True)
sys.stdin.readline()
block = b"x" * {BLOCK}
sys.stdin.readline()
"""


@pytest.fixture
def fault_lab():
    made = FaultLab()
    yield made
    made.lab.down()


def test_after_a_failed_hop_home_still_hears_of_the_body(fault_lab):
    """The hop has used up an epoch; the body that runs on has the one that it had."""
    fault_lab.prepare({"n1": "deputy.hop.connected:fail"})
    lab = fault_lab.lab
    job = lab.popen("n1", ["mosrun", "/usr/bin/python3", "-c", GROWS], stdin=subprocess.PIPE)
    pid = int(job.stdout.readline())
    lab.exec("n1", ["mosmigrate", pid, "n2"])
    assert lab.exec("n1", ["mosmigrate", pid, "n3"], check=False).returncode == 1
    job.stdin.write("grow\n")
    job.stdin.flush()

    def seen():
        return next(one for one in json.loads(lab.out("n1", ["mosps", "--json"]))
                    if one["pid"] == pid)
    wait_until(lambda: seen()["rss_bytes"] > BLOCK, what="home knows how large it is")
    guests = json.loads(lab.out("n2", ["mosps", "--guests", "--json"]))
    assert seen()["epoch"] == guests[0]["epoch"]
    _, error = job.communicate("end\n", timeout=10)
    assert (job.returncode, error) == (0, "")


STRANGE_NAME = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(15, b"na\\xff\\x1bme\\n")
print(os.getpid(), flush=True)
sys.stdin.readline()
"""


def test_a_process_may_have_any_name(fault_lab):
    fault_lab.prepare({})
    lab = fault_lab.lab
    job = lab.popen("n1", ["mosrun", "/usr/bin/python3", "-c", STRANGE_NAME], stdin=subprocess.PIPE)
    pid = int(job.stdout.readline())
    lab.exec("n1", ["mosmigrate", pid, "n2"])
    assert "na?" in fault_lab.log("n1").read_text()
    shown, = json.loads(lab.out("n1", ["mosps", "--json"]))
    assert shown["pid"] == pid and shown["command"].startswith("na\ufffd\x1bme")
    assert b"\x1b" not in subprocess.run(lab.command("n1", ["mosps"]), stdout=subprocess.PIPE,
                                         check=True).stdout
    assert f"{pid}: na" in lab.out("n1", ["sh", "-c", f"mosps --why {pid} | tr -cd '[:print:]'"])
    _, error = job.communicate("end\n", timeout=10)
    assert (job.returncode, error) == (0, "")

"""The contents of mapped files travel through the cache of the node that a process moves to."""

import re

import pytest

from lab import Lab, wait_until

CACHE = "/var/cache/drover"
# Its mapped files are some MB; what it holds itself is less.
PROGRAM = "import time\nfor i in range(10**6): time.sleep(0.02); print(i, flush=True)"


@pytest.fixture
def lab():
    with Lab(3) as made:
        yield made


class Job:
    def __init__(self, lab):
        self.lab = lab
        self.process = lab.popen("n1", ["sh", "-c", 'echo $$; exec mosrun /usr/bin/python3 -c "$0"',
                                        PROGRAM])
        self.pid = self.process.stdout.readline().strip()
        self.next = 0
        self.goes_on()

    def goes_on(self):
        for _ in range(5):
            assert self.process.stdout.readline() == f"{self.next}\n"
            self.next += 1

    def move(self, target):
        """The MB that the move took."""
        done = self.lab.exec("n1", ["mosmigrate", "-v", self.pid, target])
        self.goes_on()
        return float(re.search(r"([0-9.]+) MB", done.stdout + done.stderr)[1])


def cached(lab, node):
    return set(lab.out(node, ["sh", "-c", f"find {CACHE} -type f 2>/dev/null || true"]).split())


def test_contents_travel_once(lab):
    job = Job(lab)
    first = job.move("n2")
    files = cached(lab, "n2")
    assert files and not cached(lab, "n3")
    job.move("home")
    again = job.move("n2")
    assert again < first / 2
    assert cached(lab, "n2") == files
    # To another guest the contents go from where they are.
    assert job.move("n3") > again
    assert cached(lab, "n3") == files
    assert job.move("n2") < first / 2


def test_another_program_finds_the_contents_that_it_shares(lab):
    first = Job(lab)
    second = Job(lab)
    assert second.move("n2") > 1
    assert first.move("n2") < second.move("home") + 1


def test_a_cached_file_that_was_changed_is_not_used(lab):
    job = Job(lab)
    first = job.move("n2")
    job.move("home")
    script = f"find {CACHE} -type f | while read f; do chmod u+w $f; printf x | dd of=$f conv=notrunc " \
             "status=none; chmod 444 $f; done"
    lab.exec("n2", ["sh", "-c", script])
    assert job.move("n2") > first * 0.9
    job.move("home")
    assert job.move("n2") < first / 2


def test_without_its_keeper_contents_travel_and_the_next_guest_starts_it_again(lab):
    job = Job(lab)
    job.move("n2")
    job.move("home")
    lab.exec("n2", ["pkill", "-9", "-x", "contentd"])
    wait_until(lambda: "keeper has ended" in lab.out("n2", ["cat", "/var/log/drover/migrated.log"]))
    first = job.move("n2")
    job.move("home")
    # It is started again no sooner than ten seconds after the last time.
    def cheap():
        moved = job.move("n2")
        job.move("home")
        return moved < first / 2
    wait_until(cheap, timeout=30, every=1, what="a move without the contents")


def test_a_cache_that_cannot_be_made_costs_nothing(lab):
    lab.exec("n2", ["sh", "-c", f"rm -rf {CACHE}; echo file > {CACHE}"])
    job = Job(lab)
    assert job.move("n2") > 1
    log = lab.out("n2", ["cat", "/var/log/drover/migrated.log"])
    assert "contents travel" in log or "keeper has ended" in log
    job.move("home")

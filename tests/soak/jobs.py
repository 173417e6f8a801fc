"""The jobs of a soak: programs/numbers and programs/hammer, and programs that compute something
known beforehand."""

import os
import threading

from lab import wait_until
from numbered_job import NumberedJob, Progress

INPUT = "/var/tmp/soak-input"
INPUT_MB = 48
MAKE_INPUT = """
import random, sys
open(sys.argv[1], "wb").write(random.Random(1).randbytes(int(sys.argv[2]) << 20))
"""
CIPHER = ["openssl", "enc", "-aes-256-ctr", "-K", "00" * 32, "-iv", "00" * 16]

# Prints a line for every piece of work; each follows from all before it.
HASHES = """
import hashlib, os, sys, time
lines, pause = int(sys.argv[1]), float(sys.argv[2])
table, value = {}, b""
for number in range(lines):
    for _ in range(1000):
        value = hashlib.sha256(value + bytes([number % 256])).digest()
        table[value[:1]] = value[1:]
    seen = hashlib.sha256(b"".join(table[key] for key in sorted(table)))
    print(number, seen.hexdigest(), flush=True)
    time.sleep(pause)
"""
HASH_LINES = 4000
HASH_PAUSE_S = 0.01


class Numbers(NumberedJob):
    """programs/numbers, which goes on for ever."""

    kind = "numbers"

    def count(self):
        return self.lines.count

    def completed(self):
        return False


class Hammer(Numbers):
    """programs/hammer: sixteen threads that work on each other, and check what they find."""

    kind = "hammer"

    def __init__(self, lab, **kw):
        super().__init__(lab, program="hammer", lines=Progress(), **kw)


class ComputedJob:
    """A program that ends by itself; its output is compared with an unmoved run's as it comes."""

    def __init__(self, lab, kind, argv, expected, *, pause=0.0, user=None):
        self.lab = lab
        self.kind = kind
        self._expected = expected
        self._pause = pause  # between two reads: the program is held up by a full pipe
        self._taken = 0
        self.problem = None
        self.error = ""
        # Held open here, as a terminal would be: what is said after the job's end comes too.
        reader, self._error_writer = os.pipe()
        self.process = lab.popen("n1", ["mosrun", "sh", "-c", 'echo $$; exec "$@"', "sh", *argv],
                                 user=user, text=False, bufsize=0, stderr=self._error_writer)
        self.pid = int(self.process.stdout.readline())
        self._threads = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=self._read_error, args=[reader], daemon=True)]
        for thread in self._threads:
            thread.start()

    def _read(self):
        while data := self.process.stdout.read(16384):
            if data != self._expected[self._taken:self._taken + len(data)]:
                self.problem = AssertionError(f"{self.kind}: not what an unmoved run prints, after "
                                              f"{self._taken} bytes: {data[:100]!r}")
                return
            self._taken += len(data)
            threading.Event().wait(self._pause)

    def _read_error(self, reader):
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                self.error += line

    def count(self):
        return self._taken

    def check(self):
        if self.problem:
            raise self.problem

    def alive(self):
        return self.process.poll() is None

    def completed(self):
        """Whether it has ended by itself; raises if it printed too little."""
        if self.alive() or self.process.returncode != 0:
            return False
        self.join()
        assert self._taken == len(self._expected), f"{self.kind}: {self._taken} bytes and no more"
        return True

    def progress(self, steps=1, timeout=10.0):
        goal = self._taken + steps
        wait_until(lambda: self._taken >= goal or self.problem or not self.alive(),
                   timeout=timeout, what=f"more output of {self.kind}")
        self.check()

    def join(self):
        """Waits until all that it printed has been read and checked."""
        if self._error_writer is not None:
            os.close(self._error_writer)
            self._error_writer = None
        for thread in self._threads:
            thread.join(timeout=30)
        self.check()


class Workshop:
    """Starts jobs; knows what the computed ones have to print from runs that are not moved."""

    def __init__(self, lab):
        self.lab = lab
        lab.exec("n1", ["/usr/bin/python3", "-c", MAKE_INPUT, INPUT, str(INPUT_MB)])
        self._cipher = [*CIPHER, "-in", INPUT]
        self._ciphered = lab.exec("n1", self._cipher, text=False).stdout
        self._hashed = lab.exec("n1", self._hash(0), text=False, timeout=300).stdout
        assert len(self._ciphered) == INPUT_MB << 20 and self._hashed.count(b"\n") == HASH_LINES

    def _hash(self, pause):
        return ["/usr/bin/python3", "-c", HASHES, str(HASH_LINES), str(pause)]

    def start(self, slot):
        """A new job; its kind follows from the number of its slot."""
        kind = slot % 5
        if kind == 4:
            return Hammer(self.lab, user=1000, every_ms=20)
        if kind == 1:
            return ComputedJob(self.lab, "python3", self._hash(HASH_PAUSE_S), self._hashed)
        if kind == 3:
            return ComputedJob(self.lab, "openssl", self._cipher, self._ciphered, pause=0.01,
                               user=1000)
        return Numbers(self.lab, user=1000, every_ms=5, ballast_mb=8 if kind == 2 else 0)

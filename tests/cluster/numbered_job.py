"""programs/numbers, or one that speaks like it, as a job in a lab: what it prints is checked line
by line as it comes."""

import os
import re
import threading
import time

from lab import BIN, wait_until

PROGRAMS = BIN.parent / "cluster"

# What a move is refused with at a moment at which it only has to be asked for again.
ASK_AGAIN = re.compile(r"try again|only just coming home|is being moved already")


def next_chain(chain):
    return (chain * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1


class Sequence:
    """Checks that lines come once each, in order, whole."""

    def __init__(self):
        self.count = 0
        self.chain = 1

    def take(self, line):
        expected = f"{self.count} {self.chain:016x}\n"
        assert line == expected, f"line {self.count}: {line!r}, not {expected!r}"
        self.count += 1
        self.chain = next_chain(self.chain)


class Progress:
    """The same for programs/hammer: lines come in order and tell of ever more that was done."""

    def __init__(self):
        self.count = 0
        self.done = 0

    def take(self, line):
        assert not line.startswith("wrong"), line
        number, done = map(int, line.split())
        assert number == self.count, f"line {self.count}: {line!r}"
        assert done >= self.done, f"it was {self.done} and is {done}"
        self.count += 1
        self.done = done


class NumberedJob:
    """The job, its standard output read and checked by a thread."""

    def __init__(self, lab, *args, node="n1", user=None, every_ms=2, ballast_mb=0,
                 options=(), program="numbers", lines=None):
        self.lab = lab
        self.node = node
        self.lines = lines or Sequence()
        self.problem = None
        self.ended = None  # the number in the line "end", when it has come
        script = 'echo $$; exec "$@"'
        # Held open here, as a terminal would be: what is said after the job's end comes too.
        reader, self._error_writer = os.pipe()
        self.process = lab.popen(node, ["env", f"EVERY_MS={every_ms}",
                                        f"BALLAST_MB={ballast_mb}", "mosrun", *options, "sh", "-c",
                                        script, "sh", PROGRAMS / program, *args], user=user,
                                 stderr=self._error_writer)
        self.pid = int(self.process.stdout.readline())
        self.error = ""
        self._threads = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=self._read_error, args=[reader], daemon=True)]
        for thread in self._threads:
            thread.start()

    def _read(self):
        try:
            for line in self.process.stdout:
                if line.startswith("end "):
                    self.ended = int(line.split()[1])
                    assert self.ended == self.lines.count
                else:
                    assert self.ended is None, f"{line!r} after the end"
                    self.lines.take(line)
        except (AssertionError, ValueError) as problem:
            self.problem = problem

    def _read_error(self, reader):
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                self.error += line

    def check(self):
        if self.problem:
            raise self.problem

    def alive(self):
        return self.process.poll() is None

    def progress(self, lines=20, timeout=10.0):
        """Waits until it has printed so many lines more."""
        goal = self.lines.count + lines
        wait_until(lambda: self.lines.count >= goal or self.problem or not self.alive(),
                   timeout=timeout, what=f"{lines} more lines than {goal - lines}")
        self.check()
        assert self.lines.count >= goal, f"it ended ({self.process.returncode}): {self.error}"

    def migrate(self, target, check=True, timeout=60, user=None):
        """Asks for a move to be made, again while only the moment is bad."""
        deadline = time.monotonic() + timeout
        while True:
            done = self.lab.exec(self.node, ["mosmigrate", self.pid, target], check=False,
                                 timeout=timeout, user=user)
            bad_moment = done.returncode == 1 and ASK_AGAIN.search(done.stderr)
            if not bad_moment or time.monotonic() > deadline:
                break
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def finish(self, timeout=20):
        """Lets it end by itself and checks that nothing is missing; returns the lines printed."""
        self.lab.exec(self.node, ["kill", "-USR1", self.pid])
        self.process.wait(timeout=timeout)
        self.join()
        assert self.process.returncode == 0, f"exit {self.process.returncode}: {self.error}"
        assert self.ended is not None, "it did not print its end"
        return self.ended

    def join(self):
        """Waits until all that it printed has been read and checked."""
        if self._error_writer is not None:
            os.close(self._error_writer)
            self._error_writer = None
        for thread in self._threads:
            thread.join(timeout=10)
        self.check()


def check_shared_file(text, job_lines):
    """The file that the job and its child wrote through one offset: nothing overwritten."""
    of = {"job": Sequence(), "child": Sequence()}
    assert text.endswith("\n")
    for line in text.splitlines(keepends=True):
        who, rest = line.split(" ", 1)
        of[who].take(rest)
    assert of["job"].count == job_lines
    return of["child"].count

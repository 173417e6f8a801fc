"""programs/crowd as a job in a lab."""

import os
import threading

from lab import wait_until
from numbered_job import PROGRAMS

USER = 1000


class Crowd:
    def __init__(self, lab, *args, user=USER):
        self.lab = lab
        self.lines = []
        self.error = ""
        reader, writer = os.pipe()
        self.process = lab.popen("n1", ["mosrun", PROGRAMS / "crowd", *args], user=user,
                                 stderr=writer)
        os.close(writer)
        self.pid = int(self.process.stdout.readline())
        self._threads = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=self._read_error, args=[reader], daemon=True)]
        for thread in self._threads:
            thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _read_error(self, reader):
        with os.fdopen(reader, errors="replace") as lines:
            self.error = lines.read()

    def migrate(self, target, check=True):
        done = self.lab.exec("n1", ["mosmigrate", self.pid, target], check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def signal(self, name):
        self.lab.exec("n1", ["kill", f"-{name}", self.pid])

    def wait_for(self, line, times=1, timeout=10):
        wait_until(lambda: self.lines.count(line) >= times, what=f"{line!r}, {times} times",
                   timeout=timeout)

    def end(self, timeout=20):
        """Its exit status, when it has ended and all that it said has been read."""
        self.process.wait(timeout=timeout)
        for thread in self._threads:
            thread.join(timeout=10)
        return self.process.returncode

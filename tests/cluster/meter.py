"""programs/meter as a job in a lab: it is told what to do, and answers."""

import json
import subprocess

from lab import wait_until
from numbered_job import ASK_AGAIN, PROGRAMS


USER = 1000


class Meter:
    def __init__(self, lab, node="n1"):
        self.lab = lab
        self.node = node
        self.process = lab.popen(node, ["mosrun", PROGRAMS / "meter"], user=USER,
                                 stdin=subprocess.PIPE)
        self.pid = int(self.process.stdout.readline())

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.say(line)
        answer = self.process.stdout.readline().strip()
        assert answer, f"no answer to {line!r}: {self.process.poll()}"
        return answer

    def numbers(self, line):
        return [int(word) for word in self.ask(line).split()]

    def clocks(self):
        return self.numbers("clocks")

    def migrate(self, target):
        wait_until(lambda: self._migrate(target), timeout=60, what=f"the move to {target}")

    def _migrate(self, target):
        done = self.lab.exec(self.node, ["mosmigrate", self.pid, target], check=False)
        assert done.returncode == 0 or ASK_AGAIN.search(done.stderr), done.stderr
        return done.returncode == 0

    def job(self):
        jobs = json.loads(self.lab.out(self.node, ["mosps", "--json"]))
        return next(job for job in jobs if job["pid"] == self.pid)

    def end(self):
        """Lets it end by itself, which it does well."""
        out, err = self.process.communicate("end\n", timeout=60)
        assert (self.process.returncode, out, err) == (0, "", "")

    def close(self):
        if self.process.poll() is None:
            self.lab.exec(self.node, ["kill", "-9", self.pid], check=False)
            self.process.communicate(timeout=60)

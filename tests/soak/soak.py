#!/usr/bin/python3
"""Moves jobs about in a lab of three nodes for as long as one likes, with faults in between.

    sudo tests/soak/soak.py --moves 10000 --faults-every 50 --seed 1 --report soak.json

After each fault all that should hold is checked, every 500 moves what could leak is measured
(docs/soak.md). The seed decides which moves and faults there are; what comes of them depends on
the machine as well. Exit status 1 if anything was wrong; the daemons' logs are then kept beside
the report."""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
os.environ.setdefault("MOSLAB_TEST_PREFIX", f"soak{os.getpid()}")
import faults  # noqa: E402
import report  # noqa: E402
from fault_cases import names_node  # noqa: E402
from jobs import Workshop  # noqa: E402
from numbered_job import ASK_AGAIN  # noqa: E402
from world import SETTLED, World, wait_quietly  # noqa: E402

PLACES = ("home", "n2", "n3")
AT_ONCE = 2  # moves that are asked for at the same time
MOVE_LIMIT_S = 120  # mosmigrate that is not done by then hangs
SETTLE_LIMIT_S = 90  # TCP may take as long again as a cut to notice that it has ended
# For so long after a fault a move may still meet the ends of connections that went down with it.
GRACE_S = 5
MEASURE_EVERY = 500
WARM_UP = 50  # moves before the first measurement
MOST_PROBLEMS = 20

MOVED = re.compile(r"moved from (\S+) to (\S+): frozen ([\d.]+) ms, took ([\d.]+) ms, ([\d.]+) MB")
WORDS = re.compile(r"mosmigrate: (\d+: cannot move to \S+: )?\S.*\n")
# What a move that was not begun is answered with; whatever else goes wrong is a failed move.
REFUSED = re.compile(r"is held|is being moved already|only just coming home|already$|has ended|"
                     r"is lost|declined|try again|no deputy|is not the process of a job|connect to|"
                     r"no job")


@dataclass
class Slot:
    """A job, and where it was last known to be; a new job when that has ended."""

    number: int
    job: object = None
    identity: str = ""
    place: str = "home"
    going: tuple = ()  # from where to where, while it is being moved
    lock: threading.Lock = field(default_factory=threading.Lock)


class Soak:
    def __init__(self, world, options):
        self.world, self.options = world, options
        self.began = time.monotonic()
        self.tally = report.Tally()
        self.problems = []
        self.disturbed_until = 0.0  # nothing is down after that
        self.n1_is_down = False
        self.closing = False
        self.done = 0
        self.faults_done = 0
        self._pool = ThreadPoolExecutor(options.jobs + AT_ONCE)
        self._noting = threading.Lock()
        self.workshop = Workshop(world.lab)
        self.slots = [Slot(number) for number in range(options.jobs)]
        for slot in self.slots:
            self.replace(slot)

    def say(self, text):
        print(f"{time.monotonic() - self.began:8.1f} s, {self.done} moves: {text}", flush=True)

    def problem(self, text):
        if self.closing:
            return  # it is the soak that ends what was under way
        with self._noting:
            self.problems.append({"seconds": round(time.monotonic() - self.began, 1),
                                  "clock": time.strftime("%H:%M:%S", time.gmtime()),
                                  "moves": self.done, "text": text})
        self.say(f"PROBLEM: {text}")

    def calm(self):
        return time.monotonic() > self.disturbed_until

    def replace(self, slot):
        slot.job = self.workshop.start(slot.number)
        slot.identity = self.world.jobs()[slot.job.pid]["job"]
        slot.place, slot.going = "home", ()
        self.tally.jobs[slot.job.kind] += 1

    def slots_touching(self, node):
        """The jobs that are on a node or on their way to or from it; at home all of them are."""
        return {slot.number for slot in self.slots
                if node == "n1" or node in (slot.place, *slot.going)}

    # Moves

    def run(self):
        next_fault, next_measurement = self.options.faults_every, WARM_UP
        while self.done < self.options.moves and len(self.problems) < MOST_PROBLEMS:
            self.moves(AT_ONCE)
            self.renew_completed()
            if self.done >= next_fault > 0:
                next_fault += self.options.faults_every
                self.one_fault()
            if self.done >= next_measurement:
                next_measurement += MEASURE_EVERY - next_measurement % MEASURE_EVERY
                self.measure()
            if self.options.minutes and time.monotonic() - self.began > self.options.minutes * 60:
                self.say("time is up")
                break
        if not self.world.measurements or self.world.measurements[-1]["moves"] < self.done:
            self.measure()
        self.finish()

    def moves(self, count):
        for going in self.begin_moves(count):
            going.result()

    def begin_moves(self, count):
        count = min(count, self.options.moves - self.done)
        begun = [self._pool.submit(self.move, number)
                 for number in range(self.done, self.done + count)]
        self.done += count
        return begun

    def move(self, number):
        """Makes the move of this number, which says whose and where to."""
        chance = random.Random(f"{self.options.seed}:{number}")
        slot = self.slots[chance.randrange(len(self.slots))]
        step = chance.choice((1, 2))
        with slot.lock:
            target = PLACES[(PLACES.index(slot.place) + step) % 3]
            try:
                self.move_to(slot, target)
            except subprocess.TimeoutExpired:
                self.problem(f"slot {slot.number}: a move to {target} hangs")
            except Exception as error:  # noqa: BLE001: whatever it is, the rest goes on
                self.problem(f"slot {slot.number}: {type(error).__name__}: {error}")

    def move_to(self, slot, target, count=True):
        """Asks once, and again while only the moment is bad. Whether it was moved."""
        calm, job = self.calm(), slot.job
        slot.going = (slot.place, target)
        deadline = time.monotonic() + 20
        while True:
            done = self.world.lab.exec("n1", ["mosmigrate", "-v", job.pid, target], check=False,
                                       timeout=MOVE_LIMIT_S)
            bad_moment = done.returncode == 1 and ASK_AGAIN.search(done.stderr)
            if not bad_moment or time.monotonic() > deadline:
                break
            self.tally.asked_again[report.reason(done.stderr)] += 1
        slot.going = ()
        if done.returncode == 0:
            slot.place = target
            if count:
                self.tally.moved(MOVED.search(done.stdout))
            if calm and self.calm() and job.alive():
                job.progress(1, timeout=20)
            return True
        if count:
            outcomes = self.tally.refused if REFUSED.search(done.stderr) else self.tally.failed
            outcomes[report.reason(done.stderr)] += 1
            self.say(f"not moved: slot {slot.number} to {target}: {done.stderr.strip()}")
        if job.alive():
            self.judge_words(slot, target, done, calm and self.calm())
        return False

    def judge_words(self, slot, target, done, calm):
        if done.returncode == 1 and WORDS.fullmatch(done.stderr):
            if not calm or self.ended_meanwhile(slot):
                return
        elif not calm and self.n1_is_down:
            return
        self.problem(f"slot {slot.number} ({slot.job.kind}, {slot.job.pid}): to {target}: exit "
                     f"status {done.returncode}, {done.stderr!r}{'' if calm else ' (fault)'}")

    def ended_meanwhile(self, slot):
        return wait_quietly(lambda: not slot.job.alive(), 1) and slot.job.process.returncode == 0

    # Faults

    def one_fault(self):
        chance = random.Random(f"{self.options.seed}:fault:{self.faults_done}")
        self.faults_done += 1
        fault = faults.choose(chance, len(self.slots), self.options.faults)
        self.make_ready(fault)
        self.say(f"fault {self.faults_done}: {fault}")
        self.disturbed_until = float("inf")
        self.n1_is_down = fault.kind == "node" and fault.nodes[0] == "n1"
        before, during = chance.randint(0, 3), chance.randint(0, 4)
        going = self.begin_moves(before)
        time.sleep(chance.uniform(0, 0.15))
        began = time.monotonic()
        faults.strike(self.world, fault, self)
        for moment in sorted(chance.uniform(0, fault.seconds) for _ in range(during)):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            going += self.begin_moves(1)
        faults.undo(self.world, fault, began)
        for one in going:
            one.result()
        healed = time.monotonic()
        self.settle(fault)
        self.disturbed_until = healed + GRACE_S
        self.tally.faults[fault.kind] += 1

    def make_ready(self, fault):
        """A guest or deputy can be killed only if there is one."""
        if fault.victim >= 0 and self.slots[fault.victim].place == "home":
            with self.slots[fault.victim].lock:
                if self.slots[fault.victim].job.alive():
                    self.move_to(self.slots[fault.victim], fault.nodes[0], count=False)

    def settle(self, fault):
        began = time.monotonic()
        for slot in self.slots:
            self.settle_job(slot, fault)
        if not wait_quietly(self.nothing_is_wrong, 40):
            self.problem(f"after {fault}: {'; '.join(self.world.wrong())}")
        self.tally.settled(fault.kind, time.monotonic() - began)

    def settle_job(self, slot, fault):
        """It runs, and in one place only, or it was lost for a reason and is replaced."""
        job = slot.job
        try:
            count = job.count()
            if not wait_quietly(lambda: not job.alive() or self.runs(slot, count), SETTLE_LIMIT_S,
                                every=0.05):
                row = self.world.jobs().get(job.pid)
                self.problem(f"after {fault}: slot {slot.number} ({job.kind}, {job.pid}) does not "
                             f"go on: {row}")
                self.drop(slot)
            elif job.alive():
                self.check_place(slot, fault)
            elif not job.completed():
                self.judge_loss(slot, fault)
                self.replace(slot)
        except Exception as error:  # noqa: BLE001
            self.problem(f"after {fault}: slot {slot.number} ({job.kind}, {job.pid}): "
                         f"{type(error).__name__}: {error}")
            self.drop(slot)

    def runs(self, slot, count):
        slot.job.check()
        row = self.world.jobs().get(slot.job.pid) if slot.job.count() > count else None
        return row is not None and row["state"] in SETTLED

    def check_place(self, slot, fault):
        row = self.world.jobs().get(slot.job.pid)
        if row is None:
            return  # it has just ended
        try:
            where = self.world.place_of(slot.job.pid, slot.identity)
        except TimeoutError:
            if slot.job.alive():
                raise
            return
        if where != row["where"]:
            self.problem(f"after {fault}: slot {slot.number} ({slot.job.pid}) is on {where}, not "
                         f"on {row['where']}")
        slot.place = "home" if where == "n1" else where

    def judge_loss(self, slot, fault):
        job = slot.job
        if slot.number not in fault.at_risk:
            self.problem(f"{fault}: slot {slot.number} ({job.kind}, {job.pid}, at {slot.place}) "
                         f"was lost without cause: {job.process.returncode}, {job.error!r}")
            return
        self.tally.lost[fault.kind] += 1
        if self.n1_is_down:
            return  # there is nobody who could say so
        if not wait_quietly(lambda: names_node(job.error, job.pid), 15):
            self.problem(f"{fault}: slot {slot.number} ({job.kind}, {job.pid}) was lost, and no "
                         f"node is named: {job.process.returncode}, {job.error!r}")
        job.join()

    def drop(self, slot):
        """Makes room for the rest: the problem has been noted."""
        self.world.lab.exec("n1", ["kill", "-KILL", slot.job.pid], check=False)
        wait_quietly(lambda: not slot.job.alive(), 20)
        self.replace(slot)

    def nothing_is_wrong(self):
        self.renew_completed()
        return not self.world.wrong()

    def renew_completed(self):
        for slot in self.slots:
            with slot.lock:
                if slot.job.alive():
                    continue
                if not slot.job.completed():
                    self.problem(f"slot {slot.number} ({slot.job.kind}, {slot.job.pid}) ended: "
                                 f"{slot.job.process.returncode}, {slot.job.error!r}")
                self.tally.completed[slot.job.kind] += 1
                self.replace(slot)

    # Leaks

    def measure(self):
        for slot in self.slots:
            with slot.lock:
                if slot.place != "home" and slot.job.alive():
                    self.move_to(slot, "home", count=False)
        self.renew_completed()
        if not wait_quietly(self.nothing_is_wrong, 40):
            self.problem(f"while all rests: {'; '.join(self.world.wrong())}")
        grown = self.world.measure(self.done, {slot.identity: slot.job.pid for slot in self.slots})
        for what in grown:
            self.problem(f"grown: {what}")
        self.say(f"measured: {len(grown)} grown")

    def finish(self):
        """Lets the jobs that can end do so, and looks whether anything is left."""
        for slot in self.slots:
            if hasattr(slot.job, "finish"):
                slot.job.finish()
            else:
                self.world.lab.exec("n1", ["kill", slot.job.pid], check=False)
                slot.job.process.wait(timeout=20)
                slot.job.check()
        if not wait_quietly(lambda: not self.world.jobs() and not self.world.wrong(), 40):
            self.problem(f"left at the end: {self.world.jobs()} {self.world.wrong()}")

    def close(self):
        self.closing = True
        self._pool.shutdown(wait=False, cancel_futures=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--faults-every", type=int, default=50, help="moves; 0: no faults")
    parser.add_argument("--faults", type=lambda text: text.split(","), default=list(faults.KINDS),
                        help="kinds, with commas between them: " + ", ".join(faults.KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0, help="stop then at the latest")
    parser.add_argument("--keep-logs", action="store_true", help="also if nothing was wrong")
    parser.add_argument("--report", type=Path, default=Path("soak.json"))
    return parser.parse_args()


class Interrupts:
    """The first signal ends the soak, but not before its lab is there to be taken down."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self):
        self.held, self.came = True, False
        for number in self.SIGNALS:
            signal.signal(number, self._interrupted)

    def _interrupted(self, *_):
        self.came = True
        if not self.held:
            self.raise_those_that_came()

    def raise_those_that_came(self):
        self.held = False
        if self.came:
            for number in self.SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt


def main():
    options = parse()
    interrupts = Interrupts()
    options.report.parent.mkdir(parents=True, exist_ok=True)
    world = soak = None
    ended = "an error"
    try:
        world = World()
        interrupts.raise_those_that_came()
        soak = Soak(world, options)
        soak.run()
        ended = "its end"
    except KeyboardInterrupt:
        ended = "an interrupt"
    except Exception as error:
        if soak:
            soak.problem(f"the soak itself: {type(error).__name__}: {error}")
        raise
    finally:
        if soak:
            soak.close()
        if world:
            wrong = ended != "its end" or soak.problems or options.keep_logs
            try:
                if wrong:
                    report.keep_logs(world.lab, options.report)
            finally:
                world.lab.down()
        if soak:
            print(report.write(soak, options, ended))
    return 0 if ended == "its end" and not soak.problems else 130 if ended == "an interrupt" else 1


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for what the lab has taken with it

"""The protocol of moves, checked in all of its runs within bounds by spin; see docs/protocol.md.

The model has to pass as it is, and every mutation of it, each a mistake that a program could make,
has to be found. Its messages and steps are compared with those of the code. With DROVER_MODEL_ALL
in the environment more is explored than a run of all tests has the time for.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(__file__).with_name("protocol.pml")
MEMORY_MB = 3500

# What is explored: orders to move, faults, calls of the program, and what else it does.
CLEAN = {
    "a-call": dict(MOVES=2, FAULTS=1, CALLS=1, NOTES=0),
    "a-declaration": dict(MOVES=2, FAULTS=1, CALLS=0, NOTES=1),
    "three-moves": dict(MOVES=3, FAULTS=1, CALLS=0, NOTES=0),
    "two-faults": dict(MOVES=1, FAULTS=2, CALLS=1, NOTES=1),
    "kept": dict(KEEP=1, MOVES=2, FAULTS=1, CALLS=0, NOTES=0),
    "kept-and-two-faults": dict(KEEP=1, MOVES=1, FAULTS=2, CALLS=1, NOTES=1),
}
LARGE = {
    "a-disturbed-call": dict(MOVES=2, FAULTS=1, CALLS=1, NOTES=0, DISTURBANCES=1),
    "needs-home-or-exits": dict(MOVES=2, FAULTS=1, CALLS=0, NOTES=0, NEEDS=1, EXITS=1),
    "two-calls": dict(MOVES=2, FAULTS=1, CALLS=2, NOTES=0),
    "kept-and-a-call": dict(KEEP=1, MOVES=2, FAULTS=1, CALLS=1, NOTES=0),
}
LARGEST = {
    "two-moves-and-two-faults": dict(MOVES=2, FAULTS=2, CALLS=0, NOTES=0),
    "kept-two-moves-and-two-faults": dict(KEEP=1, MOVES=2, FAULTS=2, CALLS=0, NOTES=0),
    "three-moves-and-a-call": dict(MOVES=3, FAULTS=1, CALLS=1, NOTES=0),
}
if os.environ.get("DROVER_MODEL_ALL"):
    LARGE |= LARGEST

PLAIN = dict(CALLS=0, NOTES=0)
# The smallest bounds within which each is found, and the property that it breaks.
MUTATIONS = {
    "RUNS_BEFORE_COMMIT": (dict(MOVES=1, FAULTS=0), "one copy"),
    "NO_WAIT_FOR_END": (dict(MOVES=1, FAULTS=1), "one copy"),
    "NO_WAIT_FOR_END_OF_HOP": (dict(MOVES=2, FAULTS=1), "one copy"),
    "CLOSED_IS_ENDED": (dict(MOVES=1, FAULTS=1), "one copy"),
    "HEARTBEAT_IN_DOUBT": (dict(MOVES=1, FAULTS=1), "one copy"),
    "LEASE_FROM_COMMIT": (dict(MOVES=1, FAULTS=1), "one copy"),
    "RUNS_WITHOUT_LEASE": (dict(MOVES=1, FAULTS=1), "one copy"),
    "NO_EXITKILL": (dict(MOVES=1, FAULTS=1), "one copy"),
    "HOP_WITHOUT_FREEZE": (dict(MOVES=2, FAULTS=0), "one copy"),
    "RESTARTS_ON_LOSS": (dict(MOVES=1, FAULTS=1), "one copy"),
    "SERVES_IN_DOUBT": (dict(MOVES=1, FAULTS=1, CALLS=1), "exactly once"),
    "RESULT_DROPPED_AT_RECALL": (dict(MOVES=2, FAULTS=0, CALLS=1), "exactly once"),
    "ANSWER_NOT_IN_IMAGE": (dict(MOVES=2, FAULTS=0, CALLS=1), "exactly once"),
    "LEAVES_IN_CALL": (dict(MOVES=2, FAULTS=0, CALLS=1), "exactly once"),
    "EXITKILL_TOO_EARLY": (dict(MOVES=1, FAULTS=1), "no move"),
    "FAILED_HOP_IS_LOSS": (dict(MOVES=2, FAULTS=1), "no move"),
    "REFUSED_IMAGE_DISCARDS": (dict(MOVES=2, FAULTS=1), "no move"),
    "ANSWER_STAYS_DUE": (dict(MOVES=3, FAULTS=1), "settled"),
    "NOT_DECLARED_ANEW": (dict(MOVES=2, FAULTS=1, NOTES=1), "settled"),
    # Of a process whose memory is kept.
    "NO_WAIT_FOR_LEASE": (dict(KEEP=1, MOVES=1, FAULTS=1), "one copy"),
    "NOT_RESET": (dict(KEEP=1, MOVES=1, FAULTS=1), "one copy"),
    "COUNTS_FROM_WHEN_IT_HEARS": (dict(KEEP=1, MOVES=1, FAULTS=1), "one copy"),
    "LEASE_RENEWED_BY_GUEST": (dict(KEEP=1, MOVES=2, FAULTS=1), "one copy"),
    "HANGS_PAST_ITS_LEASE": (dict(KEEP=1, MOVES=2, FAULTS=1), "one copy"),
    "GOES_ON_WITHOUT_LEASE": (dict(KEEP=1, MOVES=2, FAULTS=1), "one copy"),
    "EFFECT_COUNTS_AT_ITS_END": (dict(KEEP=1, MOVES=1, FAULTS=1, CALLS=1), "exactly once"),
    "GOES_BACK_PAST_AN_EFFECT": (dict(KEEP=1, MOVES=1, FAULTS=1, CALLS=1), "exactly once"),
}
# Which of the model's assertions stands for which property.
PROPERTIES = {
    "one copy": r"<=1\)",
    "exactly once": r"effects\[",
    "no move": r"blamed\[|d!=",
    "settled": r"effects\[0\]==1\)|\(said|said\)",
}

# The leases: by how many ticks home waits longer than a guest, and how late a guest may be.
LEASES = {
    "home-longer": (dict(LEASE=3, HOME_WAIT=4, DRIFT=0), True),
    "home-longer-than-drift": (dict(LEASE=3, HOME_WAIT=5, DRIFT=1), True),
    "equal": (dict(LEASE=3, HOME_WAIT=3, DRIFT=0), False),
    "swapped": (dict(LEASE=5, HOME_WAIT=3, DRIFT=0), False),
    "drift-as-large-as-the-margin": (dict(LEASE=3, HOME_WAIT=4, DRIFT=1), False),
}

# What the model must be able to do, or that it finds nothing would mean nothing.
REACHED = ("OUTBOUND", "HOMECOMING", "HOP", "COMMIT_UNDONE", "HOP_UNDONE", "IMAGE_REFUSED", "LOSS",
           "LEASE_ENDED", "MOVED_FROM_LOST_SOURCE")
REACHED_KEPT = ("WENT_BACK", "WENT_BACK_AT_ONCE")

# Of the code's messages, those that the model leaves out: an image is one message here, its
# connection is made at once, and the program gets no signals.
NOT_MODELLED = {
    "kHello", "kClockAsk", "kClockTell", "kClockDone",
    "kIdentity", "kOfferContent", "kWantContent", "kContent", "kLayout", "kPages", "kState",
    "kMask", "kMaskSet", "kSignal", "kFatal", "kThreads", "kLimits", "kStop",
    "kContinue", "kCpuUsed", "kCpuWatch", "kSchedule", "kMaskAfter",
}


class Exploration:
    """What spin is to walk through: the model within bounds, as it is or with a mutation."""

    def __init__(self, bounds, mutation=None, optimize="-O0", cycles=False):
        self.macros = [f"-D{name}={value}" for name, value in bounds.items()]
        self.macros += [f"-D{mutation}"] if mutation else []
        self.optimize = optimize
        self.cycles = cycles

    def run(self, directory):
        """Until something is violated or all states have been seen."""
        text = subprocess.run(["spin", *self.macros, "-a", MODEL], cwd=directory, text=True,
                              capture_output=True, timeout=60)
        assert text.returncode == 0 and "rror" not in text.stdout, text.stdout
        kind = "-DNP" if self.cycles else "-DSAFETY"
        subprocess.run(["gcc", self.optimize, "-w", kind, "-DNOREDUCE", f"-DMEMLIM={MEMORY_MB}",
                        *(["-DCOLLAPSE"] if self.optimize != "-O0" else []),
                        "-o", "pan", "pan.c"], cwd=directory, check=True, timeout=600)
        options = ["-n", "-m1000000", "-w22"] + (["-l"] if self.cycles else [])
        return Outcome(subprocess.run(["./pan", *options], cwd=directory, text=True,
                                      capture_output=True, timeout=1500).stdout)


class Outcome:
    def __init__(self, output):
        self.output = output
        found = re.search(r"errors: (\d+)", output)
        short = ("max search depth too small", "-DMEMLIM", "out of memory")
        self.complete = found is not None and not any(words in output for words in short)
        self.errors = int(found[1]) if found else -1
        violated = re.search(r"pan:1: (.*) \(at depth", output)
        self.words = violated[1].replace(" ", "") if violated else ""


# Every test's exploration. They are made two at a time.
EXPLORATIONS = {
    **{("clean", name): Exploration(bounds) for name, bounds in CLEAN.items()},
    **{("large", name): Exploration(bounds, optimize="-O1") for name, bounds in LARGE.items()},
    **{("mutation", name): Exploration(PLAIN | bounds, name)
       for name, (bounds, _) in MUTATIONS.items()},
    **{("lease", name): Exploration(PLAIN | dict(MOVES=1, FAULTS=1) | bounds)
       for name, (bounds, _) in LEASES.items()},
    **{("reached", name): Exploration(PLAIN | dict(MOVES=2, FAULTS=1, REACH=name))
       for name in REACHED},
    **{("reached", name): Exploration(PLAIN | dict(KEEP=1, MOVES=1, FAULTS=1, REACH=name))
       for name in REACHED_KEPT},
    ("ends", "all"): Exploration(PLAIN | dict(MOVES=2, FAULTS=1), cycles=True),
    ("ends", "kept"): Exploration(PLAIN | dict(KEEP=1, MOVES=2, FAULTS=1), cycles=True),
}


@pytest.fixture(scope="module")
def explored(request, tmp_path_factory):
    wanted = [item.callspec.params["which"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")]
    pool = ThreadPoolExecutor(2)
    runs = {which: pool.submit(EXPLORATIONS[which].run, tmp_path_factory.mktemp(which[1]))
            for which in wanted}

    def outcome(which):
        seen = runs[which].result()
        print(seen.output)
        assert seen.complete
        return seen

    yield outcome
    pool.shutdown(cancel_futures=True)


def all_of(kind):
    names = [which for which in EXPLORATIONS if which[0] == kind]
    return pytest.mark.parametrize("which", names, ids=[name for _, name in names])


@all_of("clean")
def test_nothing_is_violated(explored, which):
    assert explored(which).errors == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@all_of("large")
def test_nothing_is_violated_in_many_more_states(explored, which):
    assert explored(which).errors == 0


@pytest.mark.slow
@all_of("ends")
def test_every_run_ends(explored, which):
    """So a look at where runs end is a look at all of them."""
    assert explored(which).errors == 0


@all_of("mutation")
def test_a_mutation_is_found(explored, which):
    seen = explored(which)
    assert seen.errors == 1
    assert re.search(PROPERTIES[MUTATIONS[which[1]][1]], seen.words), seen.words


@all_of("lease")
def test_home_waits_for_longer_than_any_guest_runs(explored, which):
    seen = explored(which)
    if LEASES[which[1]][1]:
        assert seen.errors == 0
    else:
        assert re.search(PROPERTIES["one copy"], seen.words), seen.words


@pytest.mark.slow
@all_of("reached")
def test_the_model_comes_to(explored, which):
    seen = explored(which)
    assert seen.errors == 1 and "!=" in seen.words, seen.words


def code(path):
    return (ROOT / path).read_text()


def enumerators(text, name):
    body = re.search(rf"enum class {name}\b[^{{]*{{(.*?)}};", text, re.S)[1]
    return set(re.findall(r"^\s*(k\w+)", re.sub(r"//.*", "", body), re.M))


def model_set(name):
    declared = re.search(rf"mtype:{name} = {{(.*?)}}", MODEL.read_text(), re.S)[1]
    return set(re.findall(r"\w+", declared))


def test_messages_are_those_of_the_code():
    known = enumerators(code("remote-syscall/body_messages.h"), "FrameType")
    assert model_set("frame") | NOT_MODELLED == known
    assert not model_set("frame") & NOT_MODELLED
    ends = enumerators(code("remote-syscall/body_messages.h"), "CallEnd")
    assert model_set("call_end") | {"kInterrupted", "kGoHome"} == ends


def test_steps_are_those_of_the_code():
    known = set(re.findall(r'string_view\("([\w.-]+)"\)', code("common/fault.h")))
    steps = re.findall(r"step ((?:[a-z]+\.[a-z.-]+(?:, )?)+)", MODEL.read_text())
    assert {name for line in steps for name in line.split(", ")} == known


def test_every_state_is_documented_and_its_function_exists():
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", code("docs/protocol.md"), re.M)
    states = model_set("home") | model_set("deputy") | model_set("guest") | model_set("body")
    assert {state for state, _ in rows} == states
    sources = "".join(path.read_text() for folder in ("migrate", "remote-syscall", "common")
                      for path in (ROOT / folder).rglob("*.cpp"))
    for state, where in rows:
        for function in re.findall(r"`(\w+::\w+|\w+)\(\)`", where):
            assert re.search(rf"\b{function}\(", sources), f"{state}: {function}"


def seconds(path, name):
    text = code(path)
    found = re.search(rf"{name}{{(\d+)}}", text)
    unit = 1000 if re.search(rf"milliseconds {name}\b", text) else 1
    return int(found[1]) / unit


def test_times_are_in_the_order_of_the_code():
    lease = seconds("migrate/lease.h", "kLease")
    margin = seconds("migrate/lease.h", "kMargin")
    patience = {seconds(path, "kRunPatience") for path in ("migrate/outbound.cpp",
                                                           "migrate/deputy_hop.cpp")}
    assert "receive_within(kLease / 2)" in code("migrate/guest.cpp")
    assert "committed_at + kLease + kMargin" in code("migrate/body_end.cpp")
    assert "return silent + lease + kMargin" in code("migrate/lease.h")
    grace, slack = (seconds("migrate/body_lease.cpp", name) for name in ("kGrace", "kSlack"))
    assert 0 < slack < grace < margin
    text = MODEL.read_text()
    model = {name: int(re.search(rf"#define {name} (\d+)", text)[1])
             for name in ("COMMIT_PATIENCE", "RUN_PATIENCE", "LEASE", "MARGIN", "DRIFT")}
    assert 0 < lease / 2 < min(patience) <= max(patience) < lease < lease + margin
    assert 0 < model["COMMIT_PATIENCE"] < model["RUN_PATIENCE"] < model["LEASE"]
    assert model["DRIFT"] < model["MARGIN"]

"""Holds every conformance program against itself: unmoved, broken on purpose, and moved by Drover.

    pytest test_conformance.py              everything (root; brings up a lab of three nodes)
    pytest test_conformance.py -k "not moved"   without Drover, as any user

Environment: DROVER_BUILD_DIR (default: build), DROVER_CONFORM_ROUNDS, DROVER_CONFORM_SEED,
DROVER_CONFORM_PARALLEL. The seed of the moments of moving is printed; results of the moved runs are
left in conformance-results.json in the build directory.
"""

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from mover import run_moved  # noqa: E402
from program import BUILD, SOURCES, all_programs, run_here  # noqa: E402

PROGRAMS = {program.name: program for program in all_programs()}
ROUNDS = int(os.environ.get("DROVER_CONFORM_ROUNDS", "80"))
SEED = int(os.environ.get("DROVER_CONFORM_SEED", random.SystemRandom().randrange(1 << 32)))
PARALLEL = int(os.environ.get("DROVER_CONFORM_PARALLEL", "4"))
FEWEST_PROGRAMS = 56
FEWEST_MOVES = 2

each_program = pytest.mark.parametrize("name", sorted(PROGRAMS))

class Runs:
    """Runs of the selected programs, a few at once: the first test that asks starts them all."""

    def __init__(self, names, run):
        self.pool = ThreadPoolExecutor(PARALLEL)
        self.futures = {name: self.pool.submit(run, PROGRAMS[name]) for name in names}

    def __getitem__(self, name):
        return self.futures[name].result()

    def close(self):
        self.pool.shutdown(wait=True, cancel_futures=True)


def selected(request, *tests):
    """The names with which any of these tests will be run."""
    items = [item for item in request.session.items if item.fspath == request.node.fspath]
    chosen = [item for item in items if getattr(item, "originalname", "") in tests]
    return sorted({item.callspec.params["name"] for item in chosen})


@pytest.fixture(scope="module")
def native_runs(request):
    names = selected(request, test_native.__name__, test_moved.__name__)
    runs = Runs(names, lambda program: run_here(program, program.rounds(ROUNDS)))
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def broken_runs(request):
    names = selected(request, test_broken.__name__)
    # Whole runs next to each other: what is broken shows in the first rounds, or at the end.
    runs = Runs(names, lambda program: (run_here(program, 12), run_here(program, 12, broken=True)))
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def moved_runs(request):
    from lab import Lab  # pylint: disable=import-outside-toplevel

    print(f"seed of the moves: DROVER_CONFORM_SEED={SEED}")
    lab = Lab(3)
    runs = None
    try:
        names = selected(request, test_moved.__name__)
        runs = Runs(
            names, lambda program: run_moved(lab, program, program.rounds(ROUNDS), SEED)
        )
        yield runs
        save_results(runs)
    finally:
        if runs:
            runs.close()
        lab.down()


def save_results(runs):
    """What the counters said, for whoever wants figures rather than verdicts."""
    results = {}
    for name, future in runs.futures.items():
        if future.done() and not future.cancelled() and not future.exception():
            run = future.result()
            results[name] = {"moves": run.moves, "seconds": run.seconds, "job": run.job}
    path = BUILD / "conformance-results.json"
    path.write_text(json.dumps({"seed": SEED, "rounds": ROUNDS, "programs": results}, indent=1))


def test_every_program_is_declared_and_built():
    assert len(PROGRAMS) >= FEWEST_PROGRAMS
    missing = [name for name, program in PROGRAMS.items() if not program.path.exists()]
    assert not missing, f"not built in {BUILD}: build the target `conformance`"
    stray = [path.name for path in SOURCES.glob("*.c") if f'"{path.stem}"' not in path.read_text()]
    assert not stray, f"they do not print `ok` and their own name: {stray}"


@each_program
def test_native(name, native_runs):
    """Without Drover, the program passes."""
    program, outcome = PROGRAMS[name], native_runs[name]
    assert outcome.stdout.startswith("READY\n"), outcome.stdout[-2000:]
    assert f"\nok {name}\n" in outcome.stdout, outcome.stdout[-2000:]
    assert "FAIL" not in outcome.stdout
    assert outcome.status == program.ends


@each_program
def test_broken(name, broken_runs):
    """With what it observes spoiled, the program does not pass: its checks can fail."""
    whole, broken = broken_runs[name]
    assert broken != whole, f"CONFORM_BREAK went unnoticed: {PROGRAMS[name].breaks_when}"
    assert broken.status == 1 or PROGRAMS[name].ends != 0


@each_program
def test_moved(name, native_runs, moved_runs):
    """Moved about, the program does and prints what it does and prints unmoved."""
    program, native = PROGRAMS[name], native_runs[name]
    moved = moved_runs[name]
    told = f"seed {SEED}, moves {moved.moves}, job {moved.job}, stderr {moved.errors[-2000:]}"
    assert moved.outcome.stdout == native.stdout, told
    assert moved.outcome.status == program.ends == native.status, told
    if not program.may_come_home:
        # A program that comes home by itself may be ordered to where it already is.
        assert not [error for _, _, error in moved.moves if error], told
    assert len([error for _, _, error in moved.moves if not error]) >= FEWEST_MOVES, told
    check_counters(program, moved, told)


def check_counters(program, moved, told):
    """Equal output proves little if nothing happened away: the deputy's own counters must agree."""
    assert moved.job is not None, f"mosps does not know the job any more; {told}"
    assert moved.job["moves"] >= FEWEST_MOVES and moved.job["away_s"] > 0, told
    for call in program.calls("forwarded"):
        served, forced_home = moved.call(call)
        assert served > 0, f"{call} was never served while away; {told}"
        assert forced_home == 0, f"{call} forced {forced_home} homecomings; {told}"
    for call in program.calls("local"):
        assert moved.call(call)[1] == 0, f"{call} forced homecomings; {told}"
    for call in program.calls("comehome"):
        assert moved.call(call)[1] > 0, f"{call} was never called while away; {told}"
    for call in program.calls("either"):
        assert sum(moved.call(call)) > 0, f"{call} was never called while away; {told}"

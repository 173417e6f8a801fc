"""What fails beside a step's own program: a link in one direction or for a while, another program,
a node. One representative step of each part of the protocol; the model of tests/model has them at
every step.

The second table of docs/fault-matrix.md says what becomes of the process; a run writes it as
observed into the build directory.
"""

import re

import pytest

from fault_cases import Bench, OTHER_ACTIONS, names_node, other_cases
from lab import BIN, ROOT

pytestmark = [pytest.mark.matrix, pytest.mark.slow]

CASES = other_cases()
MATRIX = ROOT / "docs" / "fault-matrix.md"
# Seconds until it runs again, or has ended and its user has been told; from the step on.
NOTICED = 14


@pytest.fixture(scope="module")
def bench(request):
    chosen = [item.callspec.params["case"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")]
    made = Bench(chosen)
    yield made
    made.close()


def documented():
    """The outcomes that the document names, by step and action."""
    found = {}
    for line in MATRIX.read_text().splitlines():
        fields = [field.strip() for field in line.strip("|").split("|")]
        if line.startswith("| ") and len(fields) == len(OTHER_ACTIONS) + 1 and "." in fields[0]:
            found[fields[0]] = dict(zip(OTHER_ACTIONS, fields[1:]))
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_process_goes_on_or_its_user_is_told(bench, case):
    seen = bench.result(case)
    try:
        assert seen.hit, "the step was not reached"
        assert not seen.problem
        assert not seen.left
        assert seen.seconds < NOTICED
        if seen.outcome == "lost":
            assert names_node(seen.stderr, r"\d+"), f"the job's stderr: {seen.stderr!r}"
        else:
            assert seen.stderr == ""
        assert seen.outcome in documented()[case.point][case.action].split(" or ")
    except AssertionError:
        print(f"{case}: {seen}".replace("\\n", "\n"))
        raise


def test_the_table_has_every_case(bench, request):
    lines = ["| step | " + " | ".join(OTHER_ACTIONS) + " |",
             "| --- " * (len(OTHER_ACTIONS) + 1) + "|"]
    chosen = {item.callspec.params["case"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")}
    for point in dict.fromkeys(case.point for case in CASES):
        row = [bench.result(case).outcome if case in chosen else "-" for case in CASES
               if case.point == point]
        lines.append(f"| {point} | " + " | ".join(row) + " |")
    (BIN.parent / "other-faults.md").write_text("\n".join(lines) + "\n")
    assert set(documented()) == {case.point for case in CASES}

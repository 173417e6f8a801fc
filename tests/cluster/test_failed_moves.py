"""A failed move is no move: something goes wrong at every step of the protocol, one at a time.

The steps are the ones that the programs list themselves; a step that no case reaches fails its
test. What became of the process in each case is the table docs/fault-matrix.md; a run writes
the table as observed into the build directory and compares the two.
"""

import re

import pytest

from fault_cases import Bench, Case, all_cases, fault_points, names_node
from lab import BIN, ROOT

pytestmark = pytest.mark.matrix

CASES = all_cases()
MATRIX = ROOT / "docs" / "fault-matrix.md"

# Seconds until the process runs again, or has ended and its user has been told: ten, and what a
# loaded machine takes to see it.
NOTICED = 13
SAID = 5  # where nothing falls silent, no lease is waited for
# From these steps on the body may be running where it was sent: an error may cost the job.
COMMITTED = {"deputy.outbound.commit-sent", "deputy.outbound.running",
             "deputy.outbound.memory-dropped", "deputy.hop.commit-sent", "deputy.hop.running",
             "guest.image.committed", "guest.image.running"}
# The body's memory is in this guest; from here on it is somewhere else too, or only there.
SENT = "guest.leave.image-sent"
OVER = {"guest.leave.discarded", "deputy.home.resumed"}


def allowed(case):
    """What the invariants allow to become of the process."""
    if case.point in OVER:
        return {"moved"}
    if case.point in COMMITTED:
        return {"stays", "moved", "lost"}
    if case.action == "kill":
        if case.move != "out" and case.point.startswith("deputy."):
            return {"lost"}
        if case.point == SENT:
            return {"moved", "stays", "lost"}
        if case.point.startswith("guest.leave."):
            return {"lost"}
    if case.action == "cut" and case.move in ("home", "cut-off"):
        # Home and the body no longer hear of each other.
        return {"lost", "moved"}
    return {"stays", "moved"} if case.point == SENT else {"stays"}


@pytest.fixture(scope="module")
def bench(request):
    chosen = [item.callspec.params["case"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")]
    made = Bench(chosen)
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_failed_move_is_no_move(bench, case, request):
    seen = bench.result(case)
    request.node.user_properties.append(("outcome", seen.outcome))
    try:
        assert seen.hit, "the step was not reached"
        assert not seen.problem
        assert seen.outcome in allowed(case)
        assert not seen.left
        assert seen.seconds < (SAID if case.action == "fail" else NOTICED)
        if seen.status != 0:
            assert seen.status == 1
            assert re.fullmatch(r"mosmigrate: \d+: cannot move to \S+: \S.*\n", seen.words)
        if seen.outcome == "stays":
            assert seen.status == 1
        if seen.outcome == "lost":
            assert names_node(seen.stderr, r"\d+"), f"the job's stderr: {seen.stderr!r}"
        else:
            assert seen.stderr == ""
    except AssertionError:
        print(f"{case}: {seen}".replace("\\n", "\n"))
        raise


def test_every_step_has_a_case():
    assert set(fault_points()) == {case.point for case in CASES}


def test_the_table_of_outcomes_is_as_documented(bench, request):
    """A cell of the document may name several outcomes: then chance decides which."""
    chosen = {item.callspec.params["case"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")}
    if chosen != set(CASES):
        pytest.skip("only some of the cases were run")
    observed = {case: bench.result(case).outcome for case in CASES}
    (BIN.parent / "fault-matrix.md").write_text(table(observed) + slowest(bench))
    documented = cells(MATRIX.read_text())
    assert set(documented) == {(case.move, case.point) for case in CASES}
    wrong = [f"{case}: {outcome}" for case, outcome in observed.items()
             if outcome not in documented[case.move, case.point][case.action].split(" or ")]
    assert not wrong


def table(observed):
    lines = ["| move | step | it fails | its program is killed | the link is cut |",
             "| --- | --- | --- | --- | --- |"]
    for move, point in dict.fromkeys((case.move, case.point) for case in CASES):
        row = [observed.get(Case(move, point, action), "-") for action in ("fail", "kill", "cut")]
        lines.append(f"| {move} | {point} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def slowest(bench):
    took = sorted(((bench.result(case).seconds, str(case)) for case in CASES), reverse=True)
    return "\nHow long it took, in seconds:\n" + "".join(f"- {s:.1f} {case}\n" for s, case in took)


def cells(text):
    found = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.strip("|").split("|")]
        if line.startswith("| ") and len(fields) == 5 and "." in fields[1]:
            found[fields[0], fields[1]] = dict(zip(("fail", "kill", "cut"), fields[2:]))
    return found

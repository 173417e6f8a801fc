"""Fixtures of the cluster tests."""

import os

import pytest

from lab import Lab, lab_names, PREFIX, run_moslab

collect_ignore = [] if "DROVER_RELEASED_BIN" in os.environ else ["test_released.py"]


def _factory(labs):
    def make(nodes, **kw):
        made = Lab(nodes, **kw)
        labs.append(made)
        return made

    return make


def _take_down(labs):
    problems = []
    for made in reversed(labs):
        try:
            made.down()
        except Exception as problem:  # the other labs are to go all the same
            problems.append(problem)
    if problems:
        raise problems[0]


@pytest.fixture
def lab(request):
    """Makes labs: lab(3, mask=[...]). All are taken down after the test, failed or not."""
    labs = []
    request.node.labs = labs
    yield _factory(labs)
    _take_down(labs)


@pytest.fixture(scope="module")
def module_lab():
    """The same for a lab that all tests of a file share."""
    labs = []
    yield _factory(labs)
    _take_down(labs)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the daemons of its labs had to say."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for made in getattr(item, "labs", []):
            try:
                report.sections.append((f"lab {made.name}", made.daemon_logs()))
            except Exception as problem:
                report.sections.append((f"lab {made.name}", f"no logs: {problem}"))


def pytest_sessionfinish(session):
    for name in lab_names():
        if name.startswith(f"{PREFIX}-"):
            run_moslab("down", "--name", name)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out by tests/run --fast")
    config.addinivalue_line("markers", "unsanitized: its clock or its timing a sanitizer would spoil")
    config.addinivalue_line("markers", "matrix: the same moves over and over, at every named step")

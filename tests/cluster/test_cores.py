"""A program that may leave a core comes home for it, so that its memory is in it, and of every
thread what it was at."""

import re

import pytest

from numbered_job import PROGRAMS

CRUNCHES = "x = ''.join(map(str, range(2000))); print(len(x), flush=True)\nwhile True: pass"
# What only its own computation has put into its memory.
COMPUTED = "".join(map(str, range(1900, 2000))).encode()
# A shell has what it starts in the background ignore SIGQUIT.
RUN = """mkdir -p "$0" && cd "$0" && rm -f core* && ulimit -c unlimited &&
mosrun env --default-signal=QUIT "$@" &
echo $!
wait $!
echo status $?"""


@pytest.fixture(scope="module")
def made(module_lab):
    return module_lab(3)


def start(lab, *program, directory="/var/tmp/cores"):
    job = lab.popen("n1", ["sh", "-c", RUN, directory, *program])
    return job, job.stdout.readline().strip()


def test_the_core_of_a_program_that_is_away_has_its_memory(made):
    job, pid = start(made, "/usr/bin/python3", "-c", CRUNCHES)
    assert job.stdout.readline() == "6890\n"
    made.exec("n1", ["mosmigrate", pid, "n2"])
    made.exec("n1", ["kill", "-ABRT", pid])
    output, _ = job.communicate(timeout=30)
    assert output == "status 134\n"
    core = made.exec("n1", ["sh", "-c", "cat /var/tmp/cores/core*"], text=False).stdout
    assert re.match(rb"\x7fELF", core) and COMPUTED in core


def threads_of(text):
    """{function that a thread is in: its backtrace}"""
    traces = re.split(r"^Thread \d+ ", text, flags=re.M)[1:]
    found = {}
    for trace in traces:
        name = re.search(r" (computes|reads|waits|main) \(", trace)
        assert name, text
        found[name[1]] = trace
    return found


@pytest.mark.parametrize("moves", [["n2"], ["n2", "n3"]], ids="/".join)
@pytest.mark.parametrize("how, signal, status, first", [
    pytest.param("fault", "USR1", 139, r"come_to_an_end", id="fault"),
    pytest.param("abort", "USR1", 134, r"come_to_an_end", id="abort"),
    pytest.param("wait", "QUIT", 131, None, id="kill"),
])
def test_the_core_of_a_program_of_several_threads_has_them_all(made, how, signal, status, first,
                                                               moves):
    job, pid = start(made, PROGRAMS / "cores", how)
    assert job.stdout.readline() == "ready\n"
    for target in moves:
        made.exec("n1", ["mosmigrate", pid, target])
    made.exec("n1", ["kill", f"-{signal}", pid])
    output, _ = job.communicate(timeout=30)
    assert output == f"status {status}\n"
    core = made.out("n1", ["sh", "-c", "ls /var/tmp/cores/core*"])
    text = made.out("n1", ["gdb", "-batch", "-nx", "-ex", "thread", "-ex", "bt", "-ex",
                           "thread apply all bt", "-ex", "p computed[999] == 999 * 6364136223846793005",
                           PROGRAMS / "cores", core], timeout=60)
    of = threads_of(text)
    assert set(of) == {"computes", "reads", "waits", "main"}, text
    assert re.search(r"read \(", of["reads"]) and "pthread_cond_wait" in of["waits"], text
    assert "sigwait" in of["main"], text
    assert re.search(r"^\$1 = 1$", text, re.M), text
    if first:
        # gdb begins with the first thread of the core: the one that the kernel was ending.
        assert re.search(first, re.split(r"^Thread \d+ ", text, flags=re.M)[0]), text

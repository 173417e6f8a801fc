"""A program that may leave a core comes home for it, so that its memory is in it."""

import re

CRUNCHES = "x = ''.join(map(str, range(2000))); print(len(x), flush=True)\nwhile True: pass"
# What only its own computation has put into its memory.
COMPUTED = "".join(map(str, range(1900, 2000))).encode()
RUN = """cd /var/tmp && ulimit -c unlimited &&
mosrun /usr/bin/python3 -c "$1" &
echo $!
wait $!
echo status $?"""


def test_the_core_of_a_program_that_is_away_has_its_memory(lab):
    made = lab(2)
    job = made.popen("n1", ["sh", "-c", RUN, "sh", CRUNCHES])
    pid = job.stdout.readline().strip()
    assert job.stdout.readline() == "6890\n"
    made.exec("n1", ["mosmigrate", pid, "n2"])
    made.exec("n1", ["kill", "-ABRT", pid])
    output, _ = job.communicate(timeout=30)
    assert output == "status 134\n"
    core = made.exec("n1", ["sh", "-c", "cat /var/tmp/core*"], text=False).stdout
    assert re.match(rb"\x7fELF", core) and COMPUTED in core

"""CPU time that is used away: clocks, timers, limits and scheduling, over hops and at home again."""

import json
import os
import signal
import subprocess

import pytest

from lab import wait_until
from meter import USER, Meter

MS = 1000  # what the program tells is in us


@pytest.fixture(scope="module")
def lab(module_lab):
    return module_lab(3)


@pytest.fixture
def meter(lab):
    made = Meter(lab)
    yield made
    made.close()


def killed_by(number):
    """The exit status that says so, of the shell's kind."""
    return 128 + number


def of_program(meter, node, text):
    """What a shell command says on a node of the program, or its body, whose id is in $1."""
    names = meter.lab.out(node, ["sh", "-c", "grep -H ^NSpid: /proc/[0-9]*/status"], check=False)
    # As the node has it, and as its sandbox.
    ids = [line.split("/")[2] for line in names.splitlines()
           if len(line.split()) > 2 and line.split()[-1] == str(meter.pid)]
    found = ids[0] if node != meter.node else str(meter.pid)
    return meter.lab.out(node, ["sh", "-c", text, "sh", found])


def used_on(meter, node):
    """What the kernel of a node says that the program's threads have used, in us."""
    text = of_program(meter, node, "cat /proc/$1/task/*/schedstat")
    return sum(int(line.split()[0]) for line in text.splitlines()) / 1000


def test_the_sum_is_that_of_all_nodes(lab, meter):
    meter.ask("burn 150")
    meter.migrate("n2")
    meter.ask("burn 200")
    meter.ask("burn 100")
    on_n2 = used_on(meter, "n2")
    before = meter.clocks()
    meter.migrate("n3")
    meter.ask("burn 250")
    after = meter.clocks()
    at_home, on_n3 = used_on(meter, "n1"), used_on(meter, "n3")
    known = at_home + on_n2 + on_n3
    for was, now in zip(before, after):
        assert now >= was, (before, after)
    process, thread, user, system = after
    # What the nodes' kernels count has the building of bodies in it.
    assert 700 * MS <= process <= known + 1 * MS, (after, known)
    assert process >= 0.98 * known - 20 * MS, (after, known)
    assert 700 * MS <= thread <= process
    assert abs(user + system - process) < 0.02 * process + 10 * MS
    jobs = json.loads(lab.out("n1", ["mosps", "--json"]))
    away = next(job for job in jobs if job["pid"] == meter.pid)["cpu_away_s"]
    assert away <= known / 1e6
    # Its calls are made at home, and use some there.
    wait_until(lambda: meter.job()["cpu_away_s"] >= 0.98 * (on_n2 + on_n3) / 1e6 - 0.02,
               what="mosps tells of both nodes")
    assert meter.job()["calls"]["clock_gettime"]["forced_home"] == 0
    meter.end()


def test_what_is_left_of_timers_goes_with_the_process(meter):
    meter.ask("itimer 2000 0")
    meter.ask("timer 1000 0")
    meter.ask("burn 200")
    meter.migrate("n2")
    meter.ask("burn 200")
    itimer, timer = meter.numbers("left")
    assert 0 < timer <= 600 * MS and 1000 * MS < itimer <= 1700 * MS
    meter.migrate("n3")
    meter.ask("burn 200")
    assert meter.numbers("left")[1] <= min(timer - 200 * MS, 400 * MS)
    assert meter.numbers("signals") == [0, 0, 0]
    meter.migrate("home")
    itimer, timer = meter.numbers("left")
    assert 0 < timer <= 400 * MS and 0 < itimer <= 1600 * MS
    meter.ask("burn 50")
    meter.migrate("n3")
    assert meter.numbers("left")[1] <= timer - 50 * MS
    assert meter.numbers("signals") == [0, 0, 0]
    meter.ask("burn 450")
    assert meter.numbers("signals") == [0, 1, 0]
    assert 0 < meter.numbers("left")[0] < itimer
    assert meter.numbers("left")[1] == 0
    meter.end()


def test_timers_that_are_set_away_expire_at_home(meter):
    meter.migrate("n2")
    meter.ask("timer 300 100")
    meter.ask("itimer 300 100")
    meter.ask("burn 150")
    assert meter.numbers("signals") == [0, 0, 0]
    meter.migrate("home")
    meter.ask("burn 400")
    profs, timers, _ = meter.numbers("signals")
    assert 2 <= profs <= 4 and 2 <= timers <= 4
    meter.ask("itimer 0 0")
    meter.ask("timer 0 0")
    assert meter.numbers("left") == [0, 0]
    meter.end()


@pytest.mark.parametrize("where", ["n3", "home"])
def test_a_signal_that_is_pending_moves_with_its_overruns(meter, where):
    meter.ask("block")
    meter.ask("timer 50 50")
    meter.ask("burn 120")
    meter.migrate("n2")
    meter.ask("burn 200")
    meter.migrate(where)
    meter.ask("burn 100")
    assert meter.numbers("signals") == [0, 0, 0]
    meter.ask("unblock")
    assert meter.numbers("signals")[1] == 1
    told, asked = meter.numbers("overruns")
    # At home P's clock knows a part of it only.
    assert told >= (7 if where != "home" else 1) and told <= 20, told
    assert asked == told
    meter.end()


def test_at_the_hard_limit_it_is_killed(meter):
    meter.ask("burn 100")
    meter.migrate("n2")
    meter.ask("limit 1 2")
    meter.ask("until 900")
    assert meter.numbers("signals") == [0, 0, 0]
    meter.migrate("n3")
    meter.ask("until 1200")
    assert meter.numbers("signals") == [0, 0, 1]
    meter.say("until 9000")
    meter.process.wait(timeout=60)
    assert meter.process.returncode == killed_by(signal.SIGKILL)


def test_a_limit_that_somebody_sets_at_home_is_minded_away(lab, meter):
    meter.migrate("n2")
    meter.ask("burn 300")
    lab.exec("n1", ["prlimit", "--pid", meter.pid, "--cpu=1:1"], user=USER)
    meter.say("until 90000")
    meter.process.wait(timeout=60)
    assert meter.process.returncode == killed_by(signal.SIGKILL)


def test_its_default_action_ends_it(lab):
    text = "trap - XCPU; ulimit -c 0; ulimit -S -t 1; while :; do :; done"
    job = lab.popen("n1", ["mosrun", "sh", "-c", f"echo $$; read line; {text}"], user=USER,
                    stdin=subprocess.PIPE)
    pid = job.stdout.readline().strip()
    lab.exec("n1", ["mosmigrate", pid, "n2"])
    job.stdin.write("go\n")
    job.stdin.flush()
    job.wait(timeout=60)
    assert job.returncode == killed_by(signal.SIGXCPU)
    ended = json.loads(lab.out("n1", ["mosps", "--json", "--ended"]))
    assert [one["where"] for one in ended if one["pid"] == int(pid)] == ["n2"]


@pytest.mark.parametrize("hard", ["600", "inf"])
def test_who_has_grown_to_its_limit_away_comes_home(meter, hard):
    meter.migrate("n2")
    assert meter.ask(f"space 600 {hard}") == "0"
    got = int(meter.ask("fill"))
    assert 560 < got < 600, got
    assert meter.ask("check") == "0"
    meter.migrate("n3")
    assert meter.ask("check") == "0"
    assert int(meter.ask("fill")) - got <= 1
    meter.migrate("home")
    assert meter.ask("check") == "0"
    assert int(meter.ask("fill")) - got <= 2, "as much as at home"
    meter.ask("drop")
    meter.migrate("n2")
    # A limited one leaves with less room of ours.
    assert abs(int(meter.ask("fill")) - got) <= 2
    meter.end()


def test_the_body_follows_niceness_and_cpus(meter):
    meter.ask("nice 3")
    meter.migrate("n2")
    niceness = "ps -o ni= -p $1"
    assert of_program(meter, "n2", niceness) == "3"
    assert meter.ask("nice 7") == "0"
    assert of_program(meter, "n2", niceness) == "7"
    assert of_program(meter, "n1", niceness) == "7"
    cpus = sorted(os.sched_getaffinity(0))
    for cpu in cpus:
        assert meter.ask(f"pin {cpu}") == "0"
        assert of_program(meter, "n2", "taskset -cp $1 | sed 's/.*: //'") == str(cpu)
        assert meter.ask("on") == str(cpu)
    meter.migrate("n3")
    assert of_program(meter, "n3", niceness) == "7"
    assert meter.ask("on") == str(cpus[-1])
    meter.migrate("home")
    assert of_program(meter, "n1", niceness) == "7"
    assert meter.ask("on") == str(cpus[-1])
    meter.end()

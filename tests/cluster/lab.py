"""A cluster on this machine, for tests: moslab as an object.

    with Lab(3, mask=["/srv/work"]) as lab:
        lab.exec("n1", ["mosrun", "sleep", "1"])
        lab.cut("n1", "n2")

Labs of one test run have names of their own, and those of each of its workers (pytest-xdist) too, so
that runs side by side do not meet.
"""

import itertools
import json
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("DROVER_BIN", ROOT / "build" / "bin"))
MOSLAB = BIN / "moslab"
PREFIX = "-".join([os.environ.get("MOSLAB_TEST_PREFIX", f"test{os.getpid()}"),
                   *filter(None, [os.environ.get("PYTEST_XDIST_WORKER")])])

_numbers = itertools.count(1)


def wait_until(condition, timeout=10.0, what="the condition", every=0.02):
    """Waits until condition() is true and returns what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so within {timeout} s")
        time.sleep(every)


def new_name():
    """A lab name that nobody else uses."""
    return f"{PREFIX}-{next(_numbers)}"


def run_moslab(*args, **kw):
    """Runs moslab; returns the CompletedProcess, whatever the exit status."""
    kw.setdefault("timeout", 120)
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([MOSLAB, *map(str, args)], capture_output=True, text=True, **kw)


def _own_trees():
    """The source tree and where it was built, none of them inside another."""
    build = Path(os.environ.get("DROVER_BUILD_DIR", BIN.parent)).resolve()
    return [ROOT] if build.is_relative_to(ROOT) else [ROOT, build]


class Lab:
    """A lab of `nodes` nodes, n1 to nN. Up when constructed, gone after down().

    With `trees`, the source tree and the build are on n1 wherever they are, be it in somebody's
    home directory, and on no other node: what runs there has nothing but what n1 gives it.
    """

    def __init__(self, nodes, *, mask=(), cpus=None, rate=None, rtt=None, conf=(), daemons=True,
                 bin=None, bin_of=None, name=None, trees=True):
        self.name = name or new_name()
        self.nodes = [f"n{i}" for i in range(1, nodes + 1)]
        self._popens = []
        args = ["up", nodes, "--bin", bin or BIN]
        for option, value in (("--cpus", cpus), ("--rate", rate), ("--rtt", rtt)):
            if value is not None:
                args += [option, value]
        for directory in [*mask, *(_own_trees() if trees else [])]:
            args += ["--mask", directory]
        for node, directory in (bin_of or {}).items():
            args += ["--bin-of", f"{node}={directory}"]
        for line in conf:
            args += ["--conf", line]
        if not daemons:
            args.append("--no-daemons")
        self.moslab(*args)

    def moslab(self, verb, *args):
        """Runs a moslab command on this lab and returns its output; raises when it fails."""
        done = run_moslab(verb, *args, "--name", self.name)
        if done.returncode != 0:
            raise RuntimeError(f"moslab {verb}: {done.stderr.strip()}")
        return done.stdout

    def command(self, node, argv, user=None):
        """The command line that runs argv on a node."""
        options = ["--name", self.name] + (["--user", str(user)] if user is not None else [])
        return [str(MOSLAB), "exec", *options, node, "--", *map(str, argv)]

    def exec(self, node, argv, *, user=None, check=True, timeout=60, text=True, **kw):
        """Runs argv on a node to its end, with stdout and stderr captured."""
        if "input" not in kw:
            kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        done = subprocess.run(self.command(node, argv, user), timeout=timeout, text=text, **kw)
        if check and done.returncode != 0:
            raise RuntimeError(f"{node}: {argv}: exit status {done.returncode}: {done.stderr}")
        return done

    def out(self, node, argv, **kw):
        """The output of argv on a node, without the blanks around it."""
        return self.exec(node, argv, **kw).stdout.strip()

    def popen(self, node, argv, *, user=None, **kw):
        """Starts argv on a node; ended with the lab at the latest."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        kw.setdefault("text", True)
        process = subprocess.Popen(self.command(node, argv, user), **kw)
        self._popens.append(process)
        return process

    def processes(self, node, names):
        """Host pids and names of what runs in a node's pid namespace, nested ones included."""
        found = []
        mark = f"moslab-{self.name}/{node}/"
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                name = (directory / "comm").read_text(errors="replace").strip()
                if name not in names or mark not in (directory / "cgroup").read_text():
                    continue
                if (directory / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append((int(directory.name), name))
            except OSError:
                pass  # it ended while we looked
        return found

    def write(self, node, path, text, mode="644"):
        """Makes a file on a node."""
        self.exec(node, ["sh", "-c", 'cat > "$0" && chmod "$1" "$0"', path, mode], input=text)

    def read(self, node, path):
        return self.exec(node, ["cat", path]).stdout

    def cut(self, one, other):
        self.moslab("cut", one, other)

    def heal(self, *pair):
        self.moslab("heal", *pair)

    def kill(self, node):
        self.moslab("kill", node)

    def start(self, node):
        self.moslab("start", node)

    def stop_daemon(self, node, signal="KILL"):
        """Ends a node's migrated, and waits until it is gone."""
        pid = self.out(node, ["pgrep", "-x", "migrated"])
        self.exec(node, ["kill", f"-{signal}", pid])
        wait_until(lambda: self.exec(node, ["kill", "-0", pid], check=False).returncode != 0,
                   what=f"migrated of {node} has ended")

    def start_daemon(self, node):
        """Starts a node's migrated as moslab up does, and waits until it takes commands."""
        self.exec(node, ["sh", "-c", "migrated </dev/null >>/var/log/drover/migrated.log 2>&1 &"])
        wait_until(lambda: self.status()[node]["daemon"], what=f"migrated of {node} answers")

    def status(self):
        """{node: what moslab status --json says about it}"""
        return {n["name"]: n for n in json.loads(self.moslab("status", "--json"))["nodes"]}

    def daemon_logs(self):
        """The migrated log of every node that has one, as text."""
        text = ""
        for node in self.nodes:
            done = self.exec(node, ["cat", "/var/log/drover/migrated.log"], check=False)
            if done.returncode == 0:
                text += f"--- {self.name} {node} migrated.log\n{done.stdout}"
        return text

    def down(self):
        """Takes the lab down, once."""
        if self.name not in lab_names():
            return
        self.moslab("down")
        for process in self._popens:
            try:
                process.communicate(timeout=10)
            except ValueError:
                process.wait(timeout=10)  # its pipes were closed by the test already

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()


def lab_names():
    """The labs that are up on this machine, of whomever."""
    try:
        return sorted(os.listdir("/run/moslab"))
    except FileNotFoundError:
        return []


def traces(name):
    """What there is of a lab on this machine: directories, groups, processes, mounts."""
    found = [str(path) for path in Path("/run/moslab").glob(f"{name}*")]
    for mount in Path("/proc/mounts").read_text().splitlines():
        fields = mount.split()
        if fields[2] in ("cgroup", "cgroup2"):
            # Not by a glob: groups of other labs may come and go meanwhile.
            found += [top for top, _, _ in os.walk(fields[1]) if top.endswith(f"/moslab-{name}")]
        if f"/run/moslab/{name}/" in mount:
            found.append(mount)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"moslab-{name}" in (process / "cgroup").read_text():
                found.append((process / "stat").read_text())
        except OSError:
            pass  # it ended while we looked
    return found

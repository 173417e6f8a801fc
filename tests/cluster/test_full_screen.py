"""Programs that somebody works with at a terminal are moved between one key and the next: what is
on the screen in the end is what is there when nothing was moved."""

import itertools
import json
import threading

import pytest

from lab import wait_until
from terminal import Terminal


@pytest.fixture(scope="module")
def made(module_lab):
    lab = module_lab(3)
    lab.write("n1", "/var/tmp/lines", "".join(f"line {i} of the file\n" for i in range(1, 500)))
    return lab


class Session:
    """A shell in a terminal, and the program that was started in it; moved after every step."""

    def __init__(self, lab, name, moved, **options):
        self.lab = lab
        self.name = name
        home = f"/var/tmp/{name}.{moved}"
        lab.exec("n1", ["mkdir", "-p", home])
        self.terminal = Terminal(lab, "env", f"HOME={home}", "PS1=$ ", "bash", "--norc", "--noprofile",
                                 "-i", **options)
        self.terminal.expect(r"^\$$")
        self.pid = None
        self._tour = itertools.cycle(["n2", "n3", "home"]) if moved else None
        self.where = []

    def jobs(self, *options):
        return json.loads(self.lab.out("n1", ["mosps", "--json", *options]))

    def start(self, command, pattern):
        known = [job["pid"] for job in self.jobs()]
        self.terminal.line("mosrun " + command)
        self.pid = wait_until(lambda: [job["pid"] for job in self.jobs() if job["pid"] not in known and
                                       job["command"] == self.name], what=self.name)[0]
        self.terminal.expect(pattern)
        self.move()

    def move(self):
        if self._tour:
            target = next(self._tour)
            self.lab.exec("n1", ["mosmigrate", self.pid, target])
            self.where.append(target)

    def press(self, *keys, expect=None):
        self.terminal.keys(*keys)
        if expect:
            self.terminal.expect(expect)
        self.move()

    def type(self, text, expect=None):
        self.terminal.type(text)
        if expect:
            self.terminal.expect(expect)
        self.move()

    def line(self, text, expect):
        self.terminal.line(text)
        self.terminal.expect(expect)
        self.move()

    def calls(self):
        return next(job for job in self.jobs() + self.jobs("--ended") if job["pid"] == self.pid)["calls"]

    def end(self, *keys, expect=r"^\$$"):
        """Leaves the program by these keys; what is on the screen then."""
        self.terminal.keys(*keys)
        self.terminal.expect(expect)
        self.pid_ended()
        screen = self.terminal.screen()
        self.terminal.close()
        return screen

    def pid_ended(self):
        wait_until(lambda: self.pid not in [job["pid"] for job in self.jobs()], what="its end")


def both(made, name, use, **options):
    """Uses it moved and unmoved: the two screens, and what the moved one's deputies counted."""
    screens = []
    for moved in (True, False):
        session = Session(made, name, moved, **options)
        screens.append(use(session))
        if moved:
            calls = session.calls()
            assert {"n2", "n3", "home"} <= set(session.where)
    return *screens, calls


def forced_home(calls):
    return {name for name, call in calls.items() if call["forced_home"]}


def use_python(session):
    session.start("/usr/bin/python3 -q", r"^>>>$")
    session.line("x = 6 * 7", r"^>>> x = 6 \* 7\n>>>$")
    session.line("print(x)", r"^42\n>>>$")
    session.press("Up", expect=r"^>>> print\(x\)$")
    session.press("Up", expect=r"^>>> x = 6 \* 7$")
    session.press("Left", "BSpace", expect=r"^>>> x = 6 \*7$")
    session.type(" ", expect=r"^>>> x = 6 \* 7$")
    session.press("End")
    session.line(" + 1", r"^>>> x = 6 \* 7 \+ 1\n>>>$")
    session.press("Up", "Up", expect=r"\+ 1\n>>> print\(x\)$")
    session.press("Enter", expect=r"^43\n>>>$")
    session.type("while True: pass")
    session.press("Enter", expect=r"^\.\.\.$")
    session.press("Enter")
    session.press("C-c", expect=r"^KeyboardInterrupt\n>>>$")
    session.press("C-z", expect=r"^\[1\]\+  Stopped")
    session.line("jobs", r"jobs\n\[1\]\+  Stopped")
    session.line("fg", r"^mosrun /usr/bin/python3 -q$")
    session.press("Enter", expect=r"^>>>$")
    session.line("print('after', x)", r"^after 43\n>>>$")
    # Ctrl-Z drops what has been typed and not read.
    session.type("y = 'half a li", r"^>>> y = 'half a li$")
    session.press("C-z", expect=r"half a li\n(.*\n)*\[1\]\+  Stopped")
    session.line("fg", r"fg\nmosrun")
    session.type("ne'")
    session.press("Enter")
    session.line("print(y)", r"^half a line\n>>>$")
    return session.end("C-d")


def test_a_python_session(made):
    moved, unmoved, calls = both(made, "python3", use_python, height=60)
    assert moved == unmoved
    assert forced_home(calls) == set()
    assert calls["read"]["served"] > 10 and calls["ioctl"]["served"] > 10


def use_less(session):
    session.start("less /var/tmp/lines", r"^line 1 of")
    session.press("Space", expect=r"^line 24 of")
    session.press("j", expect=r"^line 47 of")
    session.type("/of the")
    session.press("Enter")
    session.type("200g", expect=r"^line 200 of")
    session.press("C-z", expect=r"Stopped")
    session.line("fg", r"^line 200 of")
    session.press("b", expect=r"^line 177 of")
    session.terminal.resize(60, 12)
    session.terminal.expect(r"^line 177 of.*(\n.*){9,10}\nline 187 of.*\n:$")
    session.move()
    screen = session.terminal.screen()
    session.end("q")
    return screen


def test_less(made):
    moved, unmoved, calls = both(made, "less", use_less)
    assert moved == unmoved
    assert forced_home(calls) == set()


def use_vi(session):
    session.lab.exec("n1", ["rm", "-f", "/var/tmp/written"])
    session.start("vi -u NONE -N -n -i NONE /var/tmp/lines", r"^line 1 of")
    session.type("3GA, changed", expect=r"^line 3 of the file, changed$")
    session.press("Escape")
    session.type("dd", expect=r"^line 2 of the file\nline 4 of")
    session.type("p", expect=r"^line 4 of the file\nline 3 of the file, changed$")
    session.type(":300")
    session.press("Enter", expect=r"^line 300 of")
    session.press("C-z", expect=r"Stopped")
    session.line("fg", r"^line 300 of")
    session.type("o")
    session.type("new words", expect=r"^line 300 of the file\nnew words$")
    session.press("Escape")
    session.type("u", expect=r"^line 300 of the file\nline 301")
    session.terminal.resize(70, 18)
    session.move()
    session.type(":w! /var/tmp/written")
    session.press("Enter", expect=r"written")
    session.type("gg", expect=r"^line 1 of")
    screen = session.terminal.screen()
    session.type(":q!")
    session.end("Enter")
    return screen + session.lab.read("n1", "/var/tmp/written").splitlines()


def test_vi(made):
    moved, unmoved, calls = both(made, "vi", use_vi)
    assert moved == unmoved
    assert forced_home(calls) == set()


def test_somebody_types_on_while_it_is_moved(made):
    session = Session(made, "vi", True)
    session.start("vi -u NONE -N -n -i NONE /var/tmp/typed", r"^~$")
    session.press("i")
    typed = ""
    over = threading.Event()

    def move_about():
        while not over.is_set():
            session.move()
    mover = threading.Thread(target=move_about)
    mover.start()
    try:
        while len(session.where) < 12 and mover.is_alive():
            for word in (f"word{len(typed)} ", "and\n"):
                typed += word
                session.terminal.type(word)
    finally:
        over.set()
        mover.join()
    session.press("Escape")
    session.type(":wq")
    session.end("Enter")
    assert made.read("n1", "/var/tmp/typed") == typed + "\n"
    assert forced_home(session.calls()) == set()


def test_top(made):
    """Its numbers are never the same twice: it is the keys that it follows."""
    session = Session(made, "top", True)
    session.start("top -p 1 -d 0.3", r"^ +PID USER")
    session.press("c")
    session.press("V")
    session.press("V")
    session.press("h", expect=r"Help for Interactive Commands")
    session.press("q", expect=r"^ +PID USER")
    session.terminal.resize(100, 15)
    session.press("C-z", expect=r"Stopped")
    session.line("fg", r"PID USER")
    session.press("1")
    assert forced_home(session.calls()) == set()
    session.end("q")

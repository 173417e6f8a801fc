"""The conformance programs: what each one declares in its first comment, and how it ends."""

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("DROVER_BUILD_DIR", SOURCES.parents[1] / "build"))
KINDS = ("forwarded", "local", "comehome", "either")


@dataclass(frozen=True)
class Program:
    """One program and its declaration.

    covers: call name -> kind, one of KINDS.
    ends: the wait status that its parent must see, as os.waitstatus_to_exitcode() gives it.
    stays_away: it is not moved home by the schedule, so that it ends away.
    """

    name: str
    covers: dict
    ends: int
    stays_away: bool
    breaks_when: str

    @property
    def path(self):
        return BUILD / "conformance" / self.name

    def calls(self, kind):
        return [call for call, its_kind in self.covers.items() if its_kind == kind]

    def rounds(self, rounds):
        """One that comes home by itself is away for a part of its time only: it gets more."""
        return 4 * rounds if self.may_come_home else rounds

    @property
    def may_come_home(self):
        return any(kind in ("comehome", "either") for kind in self.covers.values())


@dataclass(frozen=True)
class Outcome:
    """What is seen from outside of a run."""

    status: int  # as os.waitstatus_to_exitcode() gives it: the exit status, or minus the signal
    stdout: str


def parse_end(text):
    kind, _, value = text.partition(":")
    if kind == "exit":
        return int(value)
    if kind == "signal":
        return -signal.Signals[value].value
    raise ValueError(f"ends={text}: neither exit:N nor signal:NAME")


def parse(source):
    """The declaration in a source's first comment; ValueError says what is wrong with it."""
    match = re.match(r"/\*(.*?)\*/", source.read_text(), re.DOTALL)
    header = " ".join(match.group(1).split()) if match else ""
    if not header.startswith("covers: ") or "breaks-when: " not in header:
        raise ValueError(f"{source.name}: it does not begin with /* covers: ... breaks-when: ... */")
    declared, breaks_when = header.removeprefix("covers: ").split("breaks-when: ", 1)
    covers, ends, stays_away = {}, 0, False
    for part in filter(None, (part.strip() for part in declared.split(";"))):
        fields = dict(field.split("=", 1) for field in part.split())
        if set(fields) == {"calls", "kind"} and fields["kind"] in KINDS:
            covers.update(dict.fromkeys(fields["calls"].split(","), fields["kind"]))
        elif set(fields) == {"ends"}:
            ends = parse_end(fields["ends"])
        elif fields == {"moves": "away"}:
            stays_away = True
        else:
            raise ValueError(f"{source.name}: {part!r} is not understood")
    if not covers or not breaks_when:
        raise ValueError(f"{source.name}: it declares no calls, or not when it breaks")
    return Program(source.stem, covers, ends, stays_away, breaks_when)


def all_programs():
    return [parse(source) for source in sorted(SOURCES.glob("*.c"))]


def run_here(program, rounds, broken=False, timeout_s=120):
    """Runs the program without Drover, with CONFORM_BREAK if `broken`."""
    environment = {name: value for name, value in os.environ.items() if name != "CONFORM_BREAK"}
    if broken:
        environment["CONFORM_BREAK"] = "1"
    done = subprocess.run(
        [program.path, "--rounds", str(rounds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        timeout=timeout_s,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(errors="backslashreplace"))

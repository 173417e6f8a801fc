"""What a soak has counted, as JSON and as text."""

import json
import re
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field


def reason(words):
    """mosmigrate's words without what differs from one move to the next."""
    words = words.strip().removeprefix("mosmigrate: ")
    words = re.sub(r"^\d+: cannot move to (\S+): ", "", words)
    words = re.sub(r"\bn[123]\b", "NODE", words)
    return re.sub(r"\d+", "N", words) or "(no words)"


@dataclass
class Tally:
    made: Counter = field(default_factory=Counter)  # by kind of move
    refused: Counter = field(default_factory=Counter)
    failed: Counter = field(default_factory=Counter)
    asked_again: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)
    lost: Counter = field(default_factory=Counter)  # jobs, by the fault that cost them
    jobs: Counter = field(default_factory=Counter)  # started, by kind
    completed: Counter = field(default_factory=Counter)
    freezes: dict = field(default_factory=lambda: defaultdict(list))
    durations: dict = field(default_factory=lambda: defaultdict(list))
    settling: dict = field(default_factory=lambda: defaultdict(list))

    def moved(self, words):
        source, target = words[1], words[2]
        kind = "out" if source == "n1" else "home" if target == "n1" else "hop"
        self.made[kind] += 1
        self.freezes[kind].append(float(words[3]))
        self.durations[kind].append(float(words[4]))

    def settled(self, kind, seconds):
        self.settling[kind].append(seconds)


def times(of):
    """{kind: median and 99th percentile}, and of all together."""
    everything = {**of, "all": [one for some in of.values() for one in some]}
    return {kind: {"median": round(statistics.median(some), 1),
                   "p99": round(percentile(some, 99), 1), "most": round(max(some), 1)}
            for kind, some in everything.items() if some}


def percentile(some, percent):
    ordered = sorted(some)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def keep_logs(lab, path):
    """The daemons' logs as they are now, in a directory beside the report."""
    directory = path.with_suffix(".logs")
    directory.mkdir(exist_ok=True)
    for node in lab.nodes:
        done = lab.exec(node, ["cat", "/var/log/drover/migrated.log"], check=False)
        (directory / f"{node}.log").write_text(done.stdout)


def summary(soak, options, ended):
    tally = soak.tally
    return {
        "seed": options.seed, "jobs": options.jobs, "faults_every": options.faults_every,
        "ended_by": ended, "seconds": round(time.monotonic() - soak.began),
        "moves_asked_for": soak.done, "moves_made": dict(tally.made),
        "moves_refused": dict(tally.refused.most_common()),
        "moves_failed": dict(tally.failed.most_common()),
        "asked_again": dict(tally.asked_again.most_common()),
        "faults": dict(tally.faults), "jobs_lost": dict(tally.lost),
        "jobs_started": dict(tally.jobs), "jobs_completed": dict(tally.completed),
        "freeze_ms": times(tally.freezes), "duration_ms": times(tally.durations),
        "settling_s": times(tally.settling),
        "leaks": leaks(soak.world.measurements), "measurements": soak.world.measurements,
        "problems": soak.problems,
    }


def leaks(measurements):
    """{what: first, most, last}"""
    found = {}
    for name in sorted({name for one in measurements for name in one["figures"]}):
        values = [one["figures"][name] for one in measurements if name in one["figures"]]
        found[name] = [values[0], max(values), values[-1]]
    return found


def text(found):
    made = sum(found["moves_made"].values())
    lines = [f"{found['moves_asked_for']} moves asked for in {found['seconds']} s (seed "
             f"{found['seed']}, {found['jobs']} jobs), until {found['ended_by']}: {made} made, "
             f"{sum(found['moves_refused'].values())} refused, "
             f"{sum(found['moves_failed'].values())} failed"]
    for title in ("moves_made", "moves_refused", "moves_failed", "asked_again", "faults",
                  "jobs_lost", "jobs_started", "jobs_completed"):
        lines.append(f"{title.replace('_', ' ')}:")
        lines += [f"  {count:6} {name}" for name, count in found[title].items()]
    for title in ("freeze_ms", "duration_ms", "settling_s"):
        lines.append(f"{title.replace('_', ', ')}: median, 99th percentile, most")
        lines += [f"  {name:10} {one['median']:9} {one['p99']:9} {one['most']:9}"
                  for name, one in found[title].items()]
    lines.append(f"leaks: first, most and last of {len(found['measurements'])} measurements")
    lines += [f"  {name:24} {first:8} {most:8} {last:8}"
              for name, (first, most, last) in found["leaks"].items()]
    lines.append(f"problems: {len(found['problems'])}")
    lines += [f"  {one['clock']}, {one['moves']} moves: {one['text']}" for one in found["problems"]]
    return "\n".join(lines)


def write(soak, options, ended):
    """Writes the report, and returns it as text."""
    found = summary(soak, options, ended)
    options.report.write_text(json.dumps(found, indent=1) + "\n")
    return text(found)

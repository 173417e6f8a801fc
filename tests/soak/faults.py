"""The faults of a soak: each is chosen and timed by its own random numbers, and undone."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field

from fault_cases import deafen
from world import CLEAR_DISK, FILL_DISK

# How often each kind is drawn, in shares.
KINDS = {"cut": 2, "deafen": 2, "migrated": 3, "guest": 2, "deputy": 2, "node": 2, "disk": 1}
SHORTEST_CUT_S, LONGEST_CUT_S = 0.5, 20.0
REMOTE = ("n2", "n3")


@dataclass
class Fault:
    kind: str
    nodes: tuple = ()
    seconds: float = 0.0  # until it is undone
    victim: int = -1  # the slot of the job whose guest or deputy is killed
    at_risk: set = field(default_factory=set)  # slots of jobs that it may cost

    def __str__(self):
        what = " ".join(self.nodes)
        if self.victim >= 0:
            what = f"of the job in slot {self.victim}"
        return f"{self.kind} {what}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


def choose(chance, slots, kinds):
    """The fault that follows from a generator of random numbers."""
    kind = chance.choices(kinds, [KINDS[kind] for kind in kinds])[0]
    if kind in ("cut", "deafen"):
        # As many short ones as long ones.
        seconds = SHORTEST_CUT_S * (LONGEST_CUT_S / SHORTEST_CUT_S) ** chance.random()
        return Fault(kind, tuple(chance.sample(("n1", "n2", "n3"), 2)), seconds)
    if kind in ("guest", "deputy"):
        return Fault(kind, victim=chance.randrange(slots), nodes=(chance.choice(REMOTE),))
    # A disk that is full is of interest where guests are.
    nodes = REMOTE if kind == "disk" else ("n1", *REMOTE)
    return Fault(kind, (chance.choice(nodes),), chance.uniform(0.1, 3.0))


def strike(world, fault, soak):
    """Does it, and notes which jobs it may cost."""
    node = fault.nodes[0]
    if fault.kind == "cut":
        world.lab.cut(*fault.nodes)
    elif fault.kind == "deafen":
        deafen(world.lab, *fault.nodes)
    elif fault.kind == "migrated":
        world.stop_daemon(node)
    elif fault.kind == "disk":
        world.lab.exec(node, ["sh", "-c", FILL_DISK])
    elif fault.kind == "node":
        fault.at_risk |= soak.slots_touching(node)
        world.kill_node(node)
        fault.at_risk |= soak.slots_touching(node)
    elif strike_program(world, fault, soak):
        fault.at_risk.add(fault.victim)


def strike_program(world, fault, soak):
    """Kills a job's guests or its deputy, if it has any now."""
    slot = soak.slots[fault.victim]
    if fault.kind == "guest":
        found = world.guest_programs(slot.identity)
    else:
        process = world.process_at_home(slot.job.pid)
        tracer = int(world.state(process)[1]) if process else 0
        found = [tracer] if tracer else []
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def undo(world, fault, began):
    """Ends it when its time is over."""
    time.sleep(max(0.0, began + fault.seconds - time.monotonic()))
    node = fault.nodes[0]
    if fault.kind == "cut":
        world.lab.heal(*fault.nodes)
    elif fault.kind == "deafen":
        world.lab.exec(fault.nodes[1], ["ip", "neigh", "flush", "all", "nud", "permanent"])
    elif fault.kind == "migrated":
        world.lab.start_daemon(node)
    elif fault.kind == "disk":
        world.lab.exec(node, ["sh", "-c", CLEAR_DISK])
    elif fault.kind == "node":
        world.start_node(node)

"""The nemesis: carries the plan out, one step after another, in one thread."""

import heapq
import itertools
import random
import time
from collections.abc import Sequence

from tests.chaos import machine
from tests.chaos.diary import Diary
from tests.chaos.faults import FAULTS, Steps, supervise
from tests.chaos.fleet import Fleet
from tests.chaos.plan import Fault


def unleash(fleet: Fleet, diary: Diary, faults: Sequence[Fault], seed: int) -> None:
    """Break what the plan says when it says so; return when all is mended."""
    chance = random.Random(seed)
    order = itertools.count()
    begun = time.monotonic()
    agenda: list[tuple[float, int, Fault, Steps | None]] = []
    for fault in faults:
        heapq.heappush(agenda, (begun + fault.second, next(order), fault, None))
    while agenda:
        at, _, fault, steps = heapq.heappop(agenda)
        time.sleep(max(at - time.monotonic(), 0))
        supervise(fleet)
        if steps is None:
            steps = _begin(fleet, diary, fault, chance)
        pause = next(steps, None)
        if pause is None:
            diary.write("over", fault=str(fault))
        else:
            heapq.heappush(agenda, (time.monotonic() + pause, next(order), fault, steps))
    supervise(fleet)


def _begin(fleet: Fleet, diary: Diary, fault: Fault, chance: random.Random) -> Steps:
    if impossible(fault.kind):
        diary.left_out.add(fault.kind)
        return _nothing()
    diary.counts[fault.kind] = diary.counts.get(fault.kind, 0) + 1
    diary.write("begin", kind=fault.kind, second=fault.second, **fault.parameters)
    diary.say(str(fault))
    return FAULTS[fault.kind](fleet, chance, **fault.parameters)


def _nothing() -> Steps:
    yield from ()


def impossible(kind: str) -> str:
    """Return what this machine lacks for a kind of fault; empty if it lacks nothing."""
    if kind == "fill the disk" and not machine.can_mount():
        return "root and the right to mount a small disk"
    if kind == "partition" and not machine.can_unplug():
        return "root and network namespaces"
    return ""

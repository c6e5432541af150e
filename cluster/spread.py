"""The spread rule: who may claim a due run when, so that equals share evenly (pure functions).

A run that has been due for `t` seconds may be claimed by a worker with `load` such runs under way
once `t >= (load + phase) * spread`. The least loaded worker comes first, and equals come in
the order of their phases. The claim in `store.looks` states the same rule in SQL.

Only runs with a spread are load. Tasks have none, and come and go within milliseconds: were they
load, who had just finished some would take all that is due (seen: ten jobs that fired beside a
backlog of tasks went to one worker of five).
"""

import math

GOLDEN_RATIO = 0.6180339887498949
"""frac(n * this) spreads consecutive n as evenly over [0, 1) as can be (three-distance theorem)."""

_FIRST_THIRD = 1 / 3
"""The part of a slot in which equals come one after another. The rest is for who is late: were
it all theirs, the last of one load and the first of the next would stand a millisecond apart,
and a busy machine would turn them round (seen: one start of eight beside two other suites)."""

OPENING_SLOTS = 3
"""How many slots one slot counts of runs that were due before the cluster's opening.

Processes that start together steal each other's processor: beside a test suite on two cores one
of five stood still for 100 ms, and another took its second run (seen: 3/2/2/2/1 in two starts of
about sixty; a slot of 100 ms was all the room there was). Firings have no such crowd.
"""


def turn(pid: int) -> float:
    """Return a worker's place among equals, in [0, 1), from its process id."""
    return math.modf(pid * GOLDEN_RATIO)[0]


def phase(pid: int) -> float:
    """Return the part of a slot that a worker waits for equals, in [0, 1/3)."""
    return turn(pid) * _FIRST_THIRD


def opens_after(load: int, phase: float, spread: float, *, opening: bool = False) -> float:
    """Return how many seconds a run must have been due before this worker may claim it.

    Args:
        load: runs with a spread that the worker has under way.
        phase: see `phase`.
        spread: seconds, of the job: the width of a slot.
        opening: whether the run was due before the opening; then the seconds count from there.
    """
    return (load + phase) * spread * (OPENING_SLOTS if opening else 1)


def until_poll(now: float, turn: float, interval: float) -> float:
    """Return the seconds from `now` to this worker's next poll, at most `interval`.

    Polls lie on a grid of `interval` seconds, moved by the turn, so that the polls of several
    workers come evenly one after another whatever woke them in between.
    """
    return interval - (now - turn * interval) % interval

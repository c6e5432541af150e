"""The spread rule: who may claim a due run when, so that equals share evenly (pure functions).

A run that has been due for `t` seconds may be claimed by a worker with `load` runs under way
once `t >= (load + phase) * spread`. The least loaded worker comes first, and equals come in
the order of their phases. The claim in `store` states the same rule in SQL.
"""

import math

GOLDEN_RATIO = 0.6180339887498949
"""frac(n * this) spreads consecutive n as evenly over [0, 1) as can be (three-distance theorem)."""


def phase(pid: int) -> float:
    """Return a worker's place among equals, in [0, 1), from its process id."""
    return math.modf(pid * GOLDEN_RATIO)[0]


def opens_after(load: int, phase: float, spread: float) -> float:
    """Return how many seconds a run must have been due before this worker may claim it."""
    return (load + phase) * spread


def until_poll(now: float, phase: float, interval: float) -> float:
    """Return the seconds from `now` to this worker's next poll, at most `interval`.

    Polls lie on a grid of `interval` seconds, moved by the phase, so that the polls of several
    workers come evenly one after another whatever woke them in between.
    """
    return interval - (now - phase * interval) % interval

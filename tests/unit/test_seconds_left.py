"""How long a worker that leaves may wait for its runs, whatever its master allows."""

import math
import time
from types import SimpleNamespace

import pytest

from cluster.boot import seconds_left


def leaving(graceful: int, timeout: int, told: float = 0.0) -> SimpleNamespace:
    """Return what gunicorn would hand over: a worker told to end so many seconds ago."""
    cfg = SimpleNamespace(graceful_timeout=graceful, timeout=timeout)
    return SimpleNamespace(cfg=cfg, told_at=time.monotonic() - told)


@pytest.mark.parametrize(
    ("graceful", "timeout", "told", "left"),
    [
        (25, 60, 0, 22),
        (25, 60, 10, 12),
        (25, 60, 24, 0),
        (25, 10, 0, 7),
        (120, 0, 20, 97),
        (2, 60, 0, 1),
        (25, 4, 0, 2),
        (0, 60, 0, 0),
        (25, 60, math.inf, 0),
    ],
)
def test_worker_ends_before_its_master_would_kill_it(
    graceful: int, timeout: int, told: float, left: float
) -> None:
    assert seconds_left(leaving(graceful, timeout, told)) == pytest.approx(left, abs=0.5)


def test_worker_that_its_master_gave_up_has_what_the_timeout_leaves() -> None:
    assert seconds_left(leaving(25, 60, -math.inf)) == 57

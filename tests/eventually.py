"""Waiting for a fact instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], *, within: float = 20, every: float = 0.02) -> T:
    """Return what `check` returns as soon as it is true.

    Args:
        check: asked again and again; an exception counts as "not yet".
        within: seconds until we give up.
        every: seconds between two checks.

    Raises:
        AssertionError: it never came true, or the last error that `check` raised.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            result = check()
        except Exception:
            if time.monotonic() > deadline:
                raise
        else:
            if result:
                return result
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within} s, at last: {result!r}")
        time.sleep(every)

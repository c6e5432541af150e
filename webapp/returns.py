"""Returns: the way of a connection from the thread that answered back to the main thread."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any, NamedTuple

from gunicorn.workers.gthread import PollableMethodQueue

_PIPE_BYTES = 64 * 1024  # a pipe holds no more


class Answered(NamedTuple):
    """Stands for the Future of a request that was parked; to make one takes ten times as long."""

    keep: object

    def result(self) -> object:
        """Return whether the connection can be used again."""
        return self.keep

    def cancelled(self) -> bool:
        """Return whether it was given up before: never."""
        return False


class Returns(PollableMethodQueue):  # type: ignore[misc] # gunicorn ships no types
    """What threads give back, for which the main thread is woken once and not for each.

    A thread that brings many answers would hand the interpreter over at each of them.
    """

    _woken = False

    def defer(self, callback: Callable[..., None], *args: Any) -> None:
        """Let the main thread call, soon."""
        self._queue.put(partial(callback, *args))
        if not self._woken:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        with suppress(BlockingIOError):  # full of bytes that nobody has read: they will do
            os.write(self._write_fd, b".")

    def run_callbacks(self, _fileobj: Any, max_callbacks: int = 50) -> None:
        """Call, in the main thread; other events get their turn in between."""
        with suppress(BlockingIOError):
            os.read(self._read_fd, _PIPE_BYTES)
        self._woken = False  # first, so that whoever comes now is found below, or wakes anew
        for _ in range(max_callbacks):
            try:
                callback = self._queue.get_nowait()
            except Empty:
                return
            callback()
        self._wake()

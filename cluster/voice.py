"""Voice: what one attempt says, kept in bounded memory until it is written down."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass

from cluster import log
from cluster.run import Claim
from cluster.values import mended

KEPT_BYTES = 64 * 1024
"""Of each attempt, the last ones."""
_CHUNK_BYTES = 8 * 1024
_PIECE = 2048
"""Characters; with four bytes each they are a chunk."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines of an attempt; its number and its text never change."""

    number: int
    text: str
    size: int


class Voice(AbstractContextManager[None]):
    """What one attempt says. Whoever speaks never waits, and whoever is late loses the oldest.

    Entered, it says all that is said in this context until the block ends. No generator does
    that: for each of many small tasks it would be a twentieth of all Python.

    Its lines become chunks when they are taken to be written. A chunk that may have been written
    already comes again just as it was, so that writing it twice is writing it once.

    Args:
        claim: whose.
        heard: called when there is something to take, from the thread that says it.
    """

    def __init__(self, claim: Claim, heard: Callable[["Voice"], None]) -> None:
        self.claim = claim
        self._heard = heard
        self._lock = threading.RLock()  # what is collected as garbage meanwhile may speak, too
        self._lines: deque[tuple[str, int]] = deque()
        self._waiting = 0  # bytes of the lines
        self._chunks: deque[Chunk] = deque()  # not known to be written
        self._next = 0
        self._kept: deque[tuple[int, int]] = deque()  # number and size of the last chunks
        self._total = 0  # bytes of these

    def __enter__(self) -> None:
        self._before = _speaking.set(self)

    def __exit__(self, *_: object) -> None:
        _speaking.reset(self._before)

    def say(self, text: str) -> None:
        """Add a line, or several."""
        text = mended(text[-KEPT_BYTES:].replace(self._whose(), "", 1)) + "\n"
        with self._lock:
            for start in range(0, len(text), _PIECE):
                piece = text[start : start + _PIECE]
                size = len(piece.encode())
                self._lines.append((piece, size))
                self._waiting += size
            if self._waiting > KEPT_BYTES:
                self._drop()
        self._heard(self)

    def take(self) -> list[Chunk]:
        """Return what has to be written, oldest first; the same again until it is `written`."""
        with self._lock:
            while self._lines and not self._chunks_full:
                self._cut()
            return list(self._chunks)

    @property
    def first(self) -> int:
        """The number of the oldest chunk that is kept; what is before it is to be deleted."""
        with self._lock:
            return self._kept[0][0] if self._kept else self._next

    @property
    def unwritten(self) -> int:
        """The bytes that are not known to be written."""
        with self._lock:
            return self._waiting + sum(chunk.size for chunk in self._chunks)

    def written(self, last: int) -> bool:
        """Forget the chunks up to a number; return whether there is more to take."""
        with self._lock:
            while self._chunks and self._chunks[0].number <= last:
                self._chunks.popleft()
            return bool(self._chunks or self._lines)

    @property
    def _chunks_full(self) -> bool:
        return sum(chunk.size for chunk in self._chunks) >= KEPT_BYTES

    def _whose(self) -> str:
        """Return what every line of `run.log` says of whose it is; here it goes without saying."""
        claim = self.claim
        return f" worker={claim.worker} job={claim.job} run={claim.id} attempt={claim.attempt}"

    def _drop(self) -> None:
        """Drop the oldest lines, and with them what came before, so that there is no gap."""
        while self._waiting > KEPT_BYTES:
            self._waiting -= self._lines.popleft()[1]
        self._chunks.clear()
        self._kept.clear()
        self._total = 0

    def _cut(self) -> None:
        """Make a chunk of the oldest lines; drop those that are not among the last any more."""
        pieces, size = [], 0
        while self._lines and (not size or size + self._lines[0][1] <= _CHUNK_BYTES):
            piece, length = self._lines.popleft()
            pieces.append(piece)
            size += length
        self._waiting -= size
        self._chunks.append(Chunk(self._next, "".join(pieces), size))
        self._kept.append((self._next, size))
        self._next += 1
        self._total += size
        while self._total - self._kept[0][1] >= KEPT_BYTES:
            self._total -= self._kept.popleft()[1]
        while self._chunks[0].number < self._kept[0][0]:
            self._chunks.popleft()


_speaking: ContextVar[Voice | None] = ContextVar("ronin_voice", default=None)


def say(text: str) -> None:
    """Add lines to the voice of this context, if it has one."""
    if voice := _speaking.get():
        voice.say(text)


class Ear(logging.Handler):
    """Gives what is logged to the voice of the context in which it is logged, if it has one."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(log.plain())

    def emit(self, record: logging.LogRecord) -> None:
        """Hear a line; one that can't be formatted is for the other handlers to complain of."""
        if voice := _speaking.get():
            try:
                text = self.format(record)
            except Exception:  # noqa: BLE001 - a job's line must not become an error of the job
                return
            voice.say(text)


def listen() -> None:
    """Hear what this process logs from now on; once is enough."""
    root = logging.getLogger()
    if not any(isinstance(handler, Ear) for handler in root.handlers):
        root.addHandler(Ear())

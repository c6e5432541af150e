"""Scribe: writes down what the runs of this process say and where they are, in a thread of its own.

Neither the loop nor a run ever waits for it. It makes no statement while there are no runs, and
one in a second while there are and nothing is said.
"""

import threading
import time
from contextlib import AbstractContextManager
from uuid import UUID

import psycopg

from cluster import log, voice, where
from cluster.database import Pool
from cluster.runner import Attempt
from cluster.store import questions
from cluster.store import voices as store
from cluster.store.voices import Said
from cluster.values import mended
from cluster.voice import Voice

_GATHER_SECONDS = 0.5
"""From the first new line to its write."""
_LOOK_SECONDS = 0.9
"""Between two looks whether somebody asks where a run is; the second turn is a little later."""
_LONGEST_SECONDS = 4.0
"""Between two tries while the database does not answer."""
_AGAIN_SECONDS = 0.1
"""The same, when the process is about to end."""
_STATEMENT_BYTES = 1 << 20
MOST_BYTES = 16 << 20
"""Kept while nothing can be written, whoever has said it."""


class Scribe:
    """Listens to attempts, writes down what they say, and answers where they are.

    Args:
        pool: for its statements; one of them at a time.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._log = log.get("scribe")
        # By token, whose hash is slow, with the thread.
        self._attended: dict[int, tuple[Attempt, int]] = {}
        self._unwritten: dict[Voice, None] = {}
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        self._look_at = 0.0  # monotonic
        self._thread = threading.Thread(target=self._loop, name="scribe", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        voice.listen()
        self._thread.start()

    def stop(self, within: float) -> None:
        """Write what is left, for so many seconds at most."""
        self._stopping.set()
        self._work.set()
        self._thread.join(within)

    def attend(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Keep what this thread logs, as said by an attempt, for the block."""
        return _Attended(self, attempt)

    def begin(self, attempt: Attempt) -> None:
        """Know that this thread performs an attempt."""
        self._attended[attempt.claim.token.int] = attempt, threading.get_ident()
        if not self._work.is_set():
            self._work.set()

    def end(self, attempt: Attempt) -> None:
        """Forget an attempt, which is over."""
        del self._attended[attempt.claim.token.int]

    def hear(self, voice: Voice) -> None:
        """Know of a voice that has said something."""
        # A dict, for these two steps are atomic: who speaks waits for nobody.
        self._unwritten[voice] = None
        if not self._work.is_set():
            self._work.set()

    @property
    def unwritten(self) -> int:
        """The bytes that are not known to be written."""
        return sum(each.unwritten for each in list(self._unwritten))

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._work.wait()
            self._stopping.wait(
                min(_GATHER_SECONDS * 2 ** min(self._failures, 9), _LONGEST_SECONDS)
            )
            self._work.clear()  # before the look at what it may have been set for
            self._turn()
        while self._unwritten:
            self._turn()
            time.sleep(_AGAIN_SECONDS if self._failures else 0)

    def _turn(self) -> None:
        """Write what was said until now, and answer; what can't be done is tried again."""
        try:
            voices = list(self._unwritten)
            while voices:
                self._write(voices)
            self._look()
        except Exception as error:  # noqa: BLE001 - nobody would write any more
            self._trouble(error)
        else:
            self._failures = 0

    def _write(self, voices: list[Voice]) -> None:
        """Write some of these, and take them off the list."""
        said: dict[Voice, Said] = {}
        size = 0
        while voices and size < _STATEMENT_BYTES:
            each = voices.pop(0)
            self._unwritten.pop(each, None)  # first, so that no line that comes now is forgotten
            if chunks := each.take():
                said[each] = Said(each.claim, chunks, each.first)
                size += sum(chunk.size for chunk in chunks)
        if not said:
            return
        try:
            store.write(self._pool, list(said.values()))
        except BaseException:
            self._unwritten.update(dict.fromkeys(said))
            raise
        for each, new in said.items():
            if each.written(new.chunks[-1].number):
                self.hear(each)

    def _look(self) -> None:
        """Answer whoever asks where a run of ours is; a process takes a moment to say so."""
        if not self._attended:
            return
        self._work.set()  # so that there is another turn
        if time.monotonic() < self._look_at:
            return
        tokens = [attempt.claim.token for attempt, _ in list(self._attended.values())]
        asked = questions.unanswered(self._pool, tokens)
        stacks = [(each, self._stack(each.token)) for each in asked]
        answers = [(each, mended(stack)) for each, stack in stacks if stack is not None]
        if answers:
            questions.answer(self._pool, answers)
        if len(answers) == len(asked):
            self._look_at = time.monotonic() + _LOOK_SECONDS

    def _stack(self, token: UUID) -> str | None:
        """Return where an attempt is; None if that is to come, or it is over."""
        attempt, thread = self._attended.get(token.int, (None, 0))
        if attempt is None:
            return None
        stack = attempt.where() if attempt.where else where.of_thread(thread)
        return stack if token.int in self._attended else None  # else it may be that of the next run

    def _trouble(self, error: Exception) -> None:
        """Note that nothing can be written, and drop what would be too much to keep."""
        if self._failures in (0, 10) or self._failures % 100 == 0:
            reason = f"{type(error).__name__}: {error}".strip().split("\n")[0]
            unexpected = not isinstance(error, psycopg.Error)
            self._log.warning("what runs say can't be written", reason=reason, exc_info=unexpected)
        self._failures += 1
        size = self.unwritten
        for each in list(self._unwritten):
            if size > MOST_BYTES:
                size -= each.unwritten
                self._unwritten.pop(each, None)
        self._work.set()


class _Attended(Voice):
    """The voice of an attempt, known to the scribe while a thread performs it."""

    def __init__(self, scribe: Scribe, attempt: Attempt) -> None:
        super().__init__(attempt.claim, scribe.hear)
        self._scribe = scribe
        self._attempt = attempt

    def __enter__(self) -> None:
        self._scribe.begin(self._attempt)
        super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._scribe.end(self._attempt)

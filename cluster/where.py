"""Where: the stack of what is performed, of a thread or of a process (`cluster.child`)."""

import re
import sys
import time
import traceback
from pathlib import Path

_HEAD = re.compile(r"(Current thread|Thread) 0x.*")
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_ENGINE = {str(Path(__file__).with_name(name)) for name in ("perform.py", "job.py", "child.py")}
"""A job's function is called from these; what led there is the same for all."""
_LONGEST = 64 * 1024
"""Characters that are kept of a stack's end."""
_AGAIN_SECONDS = 0.5
"""Between two signals, for a process that is not ready to answer yet."""
_WHOLE_SECONDS = 0.1
"""After its last line a process's answer is whole."""
_PATIENCE_SECONDS = 5.0
NO_ANSWER = "its process does not answer\n"


def of_thread(thread: int) -> str | None:
    """Return where a thread of this process is, the last call last; None if there is none."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented, for this very purpose
    return _shown(traceback.extract_stack(frame)) if frame else None


def _shown(stack: traceback.StackSummary) -> str:
    engine = [place for place, each in enumerate(stack) if each.filename in _ENGINE]
    own = stack[engine[-1] + 1 :] if engine else stack
    return "".join(traceback.format_list(own or stack))[-_LONGEST:]


class OfProcess:
    """Where a process is: one thread asks for it, another one passes that on and hears it."""

    def __init__(self) -> None:
        self._asked_at: float | None = None
        self._pass_on_at = 0.0
        self._heard_at = 0.0
        self._frames: list[traceback.FrameSummary] = []

    def __call__(self) -> str | None:
        """Return the stack, the last call last; None if it is still to come: then ask again."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at, self._frames = now, []
            return None
        frames = self._frames
        patience = self._asked_at + _PATIENCE_SECONDS
        if now < (self._heard_at + _WHOLE_SECONDS if frames else patience):
            return None
        self._asked_at = None
        return _shown(traceback.StackSummary.from_list(frames[::-1])) if frames else NO_ANSWER

    def to_pass_on(self) -> bool:
        """Return whether the process is to be asked now."""
        now = time.monotonic()
        if self._asked_at is None or self._frames or now < self._pass_on_at:
            return False
        self._pass_on_at = now + _AGAIN_SECONDS
        return True

    def hear(self, line: bytes) -> None:
        """Take a line of what `faulthandler` writes, the last call first."""
        text = line.decode(errors="replace")
        if found := _FRAME.fullmatch(text):
            name, number, function = found.groups()
            frame = traceback.FrameSummary(name, int(number), function, lookup_line=False)
            self._frames.append(frame)
            self._heard_at = time.monotonic()
        elif _HEAD.fullmatch(text):
            self._frames = []

"""Departure: how far the bytes of an answer have gone, without anybody waiting for the client."""

import os
import socket
from collections import deque
from typing import Any


class Line(socket.socket):
    """A client's socket, which keeps of an answer what the kernel does not take at once.

    A thread that answers is done when all is here; the worker's main thread sends on when there
    is room. What is kept is not copied. The descriptor has to be non-blocking, as one with a
    timeout is.
    """

    def __init__(self, accepted: socket.socket) -> None:
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, protocol, fileno=accepted.detach())
        self._unsent: deque[memoryview] = deque()

    def sendall(self, data: Any, _flags: int = 0) -> None:
        """Send, or keep, all of it.

        Raises:
            OSError: the client has gone.
        """
        self._unsent.append(memoryview(data))
        self.send_on()

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send, or keep, a part of a file; ours are small."""
        file.seek(offset)
        data = file.read(-1 if count is None else count)
        self.sendall(data)
        return len(data)

    def send_on(self) -> bool:
        """Give the kernel what it takes at once, and tell whether that was all.

        Raises:
            OSError: the client has gone.
        """
        try:
            while self._unsent:
                piece = self._unsent[0]
                # Not `send`, which would wait for as long as the socket's timeout.
                sent = os.write(self.fileno(), piece)
                if sent < len(piece):
                    self._unsent[0] = piece[sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            return False
        return True

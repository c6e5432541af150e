"""A proxy between workers and PostgreSQL that can misbehave while connections are open."""

import asyncio
import random
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self

MODES = ("pass", "cut", "delay", "halve", "swallow", "mute")
_CHUNK = 65536
_NO_FAREWELL = struct.pack("ii", 1, 0)  # a reset in place of an orderly end


class Proxy:
    """Forwards TCP on a free port of 127.0.0.1 to a Unix socket, as its mode says.

    The modes: `pass`; `cut`, every connection is reset and new ones too; `delay`, each chunk
    comes later; `halve`, of the next chunk only the first half comes, then nothing; `swallow`,
    everything is taken and nothing comes; `mute`, only the server's answers don't come. What
    was torn so is reset when the mode ends, for bytes are missing in it.

    Args:
        target: the path of the server's socket.
        seed: of the delays.
    """

    def __init__(self, target: str, seed: int = 0) -> None:
        self._target = target
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._mode = "pass"
        self._each = 0.0
        self._links: set[_Link] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self.set("cut")
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, mode: str, each: float = 0.0) -> None:
        """Change the mode, for the connections that are open too.

        Args:
            mode: one of `MODES`.
            each: with `delay`, seconds by which a chunk is late at most.
        """
        assert mode in MODES
        self._run(self._set(mode, each))

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _set(self, mode: str, each: float) -> None:
        self._mode, self._each = mode, each
        for link in list(self._links):
            if mode == "cut" or link.torn:
                link.reset()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "cut":
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        except OSError:  # the server is down
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, reader, far_writer, answers=False),
                self._pump(link, far_reader, writer, answers=True),
            )
        finally:
            link.reset()
            self._links.discard(link)

    async def _pump(
        self,
        link: "_Link",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        answers: bool,
    ) -> None:
        try:
            while data := await reader.read(_CHUNK):
                writer.write(await self._let_through(link, data, answers=answers))
                await writer.drain()
        except OSError:
            pass
        if not link.torn:  # who is cut off does not hear the other one leave, either
            link.reset()

    async def _let_through(self, link: "_Link", data: bytes, *, answers: bool) -> bytes:
        if self._mode == "delay":
            await asyncio.sleep(self._chance.uniform(0, self._each))
        elif self._mode == "halve" and not link.torn:
            link.torn = True
            return data[: len(data) // 2]
        elif self._mode in ("halve", "swallow") or (self._mode == "mute" and answers):
            link.torn = True
        return b"" if link.torn and (answers or self._mode != "mute") else data


class _Link:
    """One connection through the proxy; torn once bytes of it are missing."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._ends = (near, far)
        self.torn = False

    def reset(self) -> None:
        """Break it off at both ends, at once."""
        for end in self._ends:
            with suppress(OSError):
                end.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _NO_FAREWELL)
            end.transport.abort()

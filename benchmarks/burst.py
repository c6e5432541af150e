"""Send thousands of requests to one account at the same moment and account for every answer.

All connections are opened first; then each gets its request, one right after the other. With
`--connect-burst`, opening the connections is part of the moment. One process, one loop, the
standard library. Ends with status 1 if anything but success or insufficient funds was seen.
"""

import argparse
import errno
import json
import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import NamedTuple
from urllib.parse import urlsplit

SPARE_DESCRIPTORS = 100  # for everything but the connections
CONNECTING = 1000  # at a time: less than the queue of a listening socket, 4,096 on Linux
EXPECTED = (200, 409)


class Target(NamedTuple):
    """Where the requests go."""

    host: str
    port: int
    user: int

    def balance(self) -> int:
        """Ask for the balance."""
        connection = HTTPConnection(self.host, self.port, timeout=60)
        connection.request("GET", f"/users/{self.user}", headers={"Connection": "close"})
        balance: int = json.loads(connection.getresponse().read())["balance"]
        return balance

    def request(self, amount: int) -> bytes:
        """Return the whole request."""
        body = json.dumps({"amount": amount})
        lines = [
            f"POST /users/{self.user}/balance HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", body]).encode()


class Connection:
    """One connection, the rest of its request and the start of its response."""

    def __init__(self, request: bytes) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self.unsent = request
        self.received = b""
        self.start = 0.0

    def connect(self, target: Target) -> None:
        """Begin to connect."""
        error = self.socket.connect_ex((target.host, target.port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))

    def send(self) -> None:
        """Send what the kernel takes."""
        self.unsent = self.unsent[self.socket.send(self.unsent) :]

    def receive(self) -> bool:
        """Read what is here, and tell whether the response is complete."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("closed without a complete response")
        self.received += piece
        head, end, body = self.received.partition(b"\r\n\r\n")
        return bool(end) and len(body) >= _content_length(head)


class Burst:
    """All connections of one run, and what became of them."""

    def __init__(self, target: Target, *, timeout: float) -> None:
        self.target = target
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.seconds = 0.0
        self._timeout = timeout
        self._poller = DefaultSelector()
        self._open: set[Connection] = set()

    def run(self, request: bytes, count: int, *, connect_first: bool) -> None:
        """Make the requests and wait for the answers."""
        if connect_first:
            connections = self._connected(request, count)
        else:
            connections = [Connection(request) for _ in range(count)]
        self._open.update(connections)
        began = time.perf_counter()
        for connection in connections:
            connection.start = time.perf_counter()
            self._guarded(connection, self._send if connect_first else self._connect)
        self._until(began + self._timeout, lambda: not self._open)
        self.seconds = time.perf_counter() - began
        for connection in tuple(self._open):
            self._fail(connection, TimeoutError("no answer in time"))

    def _connected(self, request: bytes, count: int) -> list[Connection]:
        """Open the connections, some at a time, and let the poller look for answers."""
        connections = [Connection(request) for _ in range(count)]
        deadline = time.perf_counter() + self._timeout
        for begin in range(0, count, CONNECTING):
            batch = set(connections[begin : begin + CONNECTING])
            for connection in batch:
                connection.connect(self.target)
                self._poller.register(connection.socket, EVENT_WRITE, connection)
            while batch:
                if time.perf_counter() > deadline:
                    raise TimeoutError("could not connect in time")
                for key, _ in self._poller.select(1):
                    if key.data in batch:
                        _raise_error(key.data.socket)
                        self._poller.modify(key.data.socket, EVENT_READ, key.data)
                        batch.remove(key.data)
        return connections

    def _until(self, deadline: float, done: Callable[[], bool]) -> None:
        while not done() and time.perf_counter() < deadline:
            for key, event in self._poller.select(1):
                self._guarded(key.data, self._send if event & EVENT_WRITE else self._receive)

    def _guarded(self, connection: Connection, step: Callable[[Connection], None]) -> None:
        try:
            step(connection)
        except BlockingIOError:
            pass  # the poller tells when
        except OSError as error:
            self._fail(connection, error)

    def _connect(self, connection: Connection) -> None:
        connection.connect(self.target)
        self._poller.register(connection.socket, EVENT_WRITE, connection)
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        connection.send()
        if self._poller.get_key(connection.socket).events == EVENT_WRITE and not connection.unsent:
            self._poller.modify(connection.socket, EVENT_READ, connection)

    def _receive(self, connection: Connection) -> None:
        if connection.receive():
            self.latencies.append(time.perf_counter() - connection.start)
            self.answers[_name(connection.received)] += 1
            self._close(connection)

    def _fail(self, connection: Connection, error: OSError) -> None:
        self.errors[error.strerror or str(error)] += 1
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.socket in self._poller.get_map():
            self._poller.unregister(connection.socket)
        connection.socket.close()


def _raise_error(connected: socket.socket) -> None:
    error = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    raise ConnectionError("a response without Content-Length")


def _name(response: bytes) -> str:
    """Return the status and, of a problem, its type."""
    head, _, body = response.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode()
    if b"application/problem+json" not in head.lower():
        return status
    return f"{status} {json.loads(body)['type']}"


def raise_descriptor_limit(connections: int) -> None:
    """Allow this process so many connections, or end it with a word about it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and wanted > hard:
        sys.exit(f"{connections:,} connections need {wanted:,} descriptors; {hard:,} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _report(burst: Burst, before: int, after: int) -> None:
    total = sum(burst.answers.values()) + sum(burst.errors.values())
    print(f"{total:,} requests in {burst.seconds:.2f} s")
    for name, count in sorted(burst.answers.items()):
        print(f"  {count:>6,}  {name}")
    print(f"  {sum(burst.errors.values()):>6,}  connection errors")
    for reason, count in burst.errors.items():
        print(f"  {count:>14,}  {reason}")
    times = sorted(burst.latencies)
    if times:
        ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        shown = [f"{k} {times[int(r * (len(times) - 1))] * 1000:,.0f}" for k, r in ranks.items()]
        print("latency in ms:", ", ".join(shown))
    print(f"balance: {before:,} before, {after:,} after")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (%(default)s)")
    parser.add_argument("--requests", type=int, default=10_000, help="how many (%(default)s)")
    parser.add_argument("--user", type=int, default=1, help="whose balance (%(default)s)")
    parser.add_argument("--amount", type=int, default=-2, help="of each request (%(default)s)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds (%(default)s)")
    parser.add_argument(
        "--connect-burst", action="store_true", help="open the connections in the same moment"
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    arguments = _arguments()
    url = urlsplit(arguments.url)
    target = Target(url.hostname or "127.0.0.1", url.port or 80, arguments.user)
    raise_descriptor_limit(arguments.requests)
    burst = Burst(target, timeout=arguments.timeout)
    request = target.request(arguments.amount)
    try:
        before = target.balance()
        burst.run(request, arguments.requests, connect_first=not arguments.connect_burst)
        _report(burst, before, target.balance())
    except OSError as error:
        sys.exit(f"{arguments.url}: {error}")
    strange = [name for name in burst.answers if int(name[:3]) not in EXPECTED]
    return 1 if burst.errors or strange else 0


if __name__ == "__main__":
    sys.exit(main())

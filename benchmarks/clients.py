"""Clients: connections that are kept alive, and ask again as soon as they are answered."""

import multiprocessing
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from selectors import EVENT_READ, DefaultSelector

CLIENTS = 64
CLOSED = b"closed"
_SETTLE_SECONDS = 1.0  # not counted


@dataclass
class Connection:
    """One kept-alive connection, and the answer that arrives on it."""

    port: int
    client: socket.socket = field(init=False)
    received: bytes = b""
    etag: bytes = b""
    due: float = 0.0

    def __post_init__(self) -> None:
        self.client = socket.create_connection(("127.0.0.1", self.port))

    def send(self, head: str, body: bytes = b"") -> None:
        """Send a request."""
        self.received = b""
        self.client.sendall(f"{head}\r\nHost: localhost\r\n".encode() + body)

    def receive(self) -> bytes | None:
        """Return the head of the answer once all of it is here."""
        try:
            piece = self.client.recv(262144)
        except ConnectionResetError:
            piece = b""
        if not piece:  # idle for too long on a machine that is too busy
            self.client.close()
            self.client = socket.create_connection(("127.0.0.1", self.port))
            return CLOSED
        self.received += piece
        head, end, body = self.received.partition(b"\r\n\r\n")
        if end and (status(head) == 304 or len(body) >= int(header(head, b"content-length"))):
            return head
        return None


def header(head: bytes, name: bytes) -> bytes:
    """Return a field of an answer; empty if it is not there."""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(name + b":"):
            return line.split(b":", 1)[1].strip()
    return b""


def status(head: bytes) -> int:
    """Return the status of an answer."""
    return int(head.split(b" ", 2)[1])


def post(port: int, answered: "Synchronized[int]", path: str, body: bytes) -> None:
    """Post the same over many connections, again and again, until somebody ends this."""
    poller = DefaultSelector()
    rest = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def ask(connection: Connection) -> None:
        connection.send(f"POST {path} HTTP/1.1", rest)

    for _ in range(CLIENTS):
        connection = Connection(port)
        poller.register(connection.client, EVENT_READ, connection)
        ask(connection)
    while True:
        for key, _ in poller.select():
            connection = key.data
            head = connection.receive()
            if head is None:
                continue
            if head is CLOSED:
                poller.unregister(key.fileobj)
                poller.register(connection.client, EVENT_READ, connection)
            elif status(head) in (200, 201):
                answered.value += 1
            else:
                sys.exit(f"answered with {head!r}")
            ask(connection)


@contextmanager
def posting(port: int, path: str, body: bytes) -> Iterator["Synchronized[int]"]:
    """Post for as long as the block takes; the value counts the answers that were good."""
    answered = multiprocessing.Value("q", 0)
    process = multiprocessing.Process(target=post, args=(port, answered, path, body), daemon=True)
    process.start()
    yield answered
    if not process.is_alive():
        sys.exit("a client ended")
    process.terminate()


def rate(port: int, path: str, body: bytes, seconds: float) -> float:
    """Return the good answers a second that 64 connections get."""
    with posting(port, path, body) as answered:
        time.sleep(_SETTLE_SECONDS)
        begun, before = time.monotonic(), answered.value
        time.sleep(seconds)
        return (answered.value - before) / (time.monotonic() - begun)

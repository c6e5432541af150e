"""A gunicorn with our worker class over a small application, and clients byte by byte."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
HALF_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-"
HALF_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection whose bytes are under the control of the test."""

    def __init__(self, port: int, first: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self.socket.makefile("rb")
        self.send(first)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def answer(self) -> Answer:
        """Read one response."""
        status = int(self._file.readline().split()[1])
        lines = iter(self._file.readline, b"\r\n")
        headers = dict(line.decode().lower().strip().split(": ", 1) for line in lines)
        return Answer(status, headers, self._file.read(int(headers.get("content-length", 0))))

    def rest(self) -> bytes:
        """Read until the server closes."""
        return self._file.read()

    def close(self) -> None:
        """Close, with a reset if something is unread."""
        self._file.close()
        self.socket.close()


class Server:
    """A gunicorn with one worker and two threads, and the clients of one test."""

    def __init__(self, log: Path, temper: str, *options: str) -> None:
        command = [sys.executable, "-m", "gunicorn", "tests.system.echo_app:app", "--bind"]
        command += ["127.0.0.1:0", "--worker-class", f"tests.system.echo_app.{temper}"]
        command += ["--threads", "2", "--worker-connections", "4000", "--no-control-socket"]
        command += ["--workers", "1", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("wb") as stderr:  # in its folder there is no gunicorn.conf.py
            self.process = subprocess.Popen(command, cwd=log.parent, env=environment, stderr=stderr)
        self.log = log
        self.port = 0
        self._clients = contextlib.ExitStack()

    def wait(self) -> "Server":
        """Wait until it answers."""
        ports = eventually(lambda: re.findall(r"0\.1:(\d+) ", self.log.read_text()))
        self.port = int(ports[0])
        assert self.post(b"").status == 200
        return self

    @property
    def worker(self) -> psutil.Process:
        """The worker process, of several the oldest."""
        return psutil.Process(self.process.pid).children()[0]

    def connections(self) -> int:
        """Return how many connections the worker has."""
        found = self.worker.net_connections("tcp")
        return sum(each.status == psutil.CONN_ESTABLISHED for each in found)

    def client(self, first: bytes = b"") -> Client:
        """Open a connection and send the first bytes."""
        client = Client(self.port, first)
        self._clients.callback(client.close)
        return client

    def post(self, body: bytes, *more: str) -> Answer:
        """Send a request on a connection of its own, and read its response."""
        client = self.client(request(body, *more))
        try:
            return client.answer()
        finally:
            client.close()

    def forget(self) -> None:
        """Close the connections of a test."""
        self._clients.close()

    def stop(self) -> None:
        """End it, whatever the test has left."""
        self.forget()
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children():
                process.kill()
        self.process.kill()
        self.process.wait()


def request(body: bytes, *more: str, path: str = "/") -> bytes:
    """Return a whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


Serve = Callable[..., Server]

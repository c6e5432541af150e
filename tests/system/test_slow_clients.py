"""The worker class in a real gunicorn, with clients that are slow, silent, rude or in doubt."""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.eventually import eventually
from webapp.gthread import BODY_LIMIT, HEAD_LIMIT

ROOT = Path(__file__).parents[2]
HALF_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-"
HALF_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


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


@pytest.fixture(scope="module", autouse=True)
def many_descriptors() -> Iterator[None]:
    """Allow this process, and the servers that it starts, some thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    server = Server(tmp_path_factory.mktemp("patient") / "log", "Patient")
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture
def server(patient: Server) -> Iterator[Server]:
    """Return the shared server; it gives a client more time than any test takes."""
    yield patient
    patient.forget()


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a server for this test alone."""
    with contextlib.ExitStack() as stack:

        def start(temper: str = "Patient", *options: str) -> Server:
            server = Server(tmp_path / "log", temper, *options)
            stack.callback(server.stop)
            return server.wait()

        yield start


def test_half_sent_requests_stop_nobody(server: Server) -> None:
    """1,200 of them stay open while two threads answer everybody else."""
    slow = [server.client(HALF_HEAD) for _ in range(1000)]
    slow += [server.client(HALF_BODY) for _ in range(200)]
    assert {server.post(b"%d" % i).body == b"%d" % i for i in range(100)} == {True}
    poll = select.poll()
    for client in slow:
        poll.register(client.socket, select.POLLIN)
    assert poll.poll(0) == []


def test_two_workers_serve_beside_half_sent_requests(serve: Serve) -> None:
    """The accepting of several workers does not change it."""
    server = serve("Patient", "--workers", "2")
    assert [server.client(HALF_BODY) for _ in range(100)]
    assert {server.post(b"x").status for _ in range(50)} == {200}


def test_half_sent_request_gets_408(serve: Serve) -> None:
    """The answer is a problem, and the connection is over. To silence one can't answer."""
    server = serve("Hasty")
    silent = server.client()
    halves = [HALF_HEAD, HALF_BODY, CHUNKED + b"5\r\nhel", b"\x16\x03\x01"]
    for client in [server.client(half) for half in halves]:
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert answer.headers["content-type"] == "application/problem+json"
        assert b'"urn:ronin:problem:request-timeout"' in answer.body
        assert client.rest() == b""
    assert silent.rest() == b""


def test_trickle_does_not_extend_the_deadline(serve: Serve) -> None:
    """A byte now and then is not enough."""
    server = serve("Hasty")
    client = server.client(HALF_HEAD)

    def refused() -> bool:
        client.send(b"x")
        return bool(select.select([client.socket], [], [], 0)[0])

    eventually(refused)
    assert client.answer().status == 408


def test_lingering_clients_stall_nobody(server: Server) -> None:
    """20 of them got `Connection: close` and don't; gunicorn would wait 2 s for each."""
    start = time.monotonic()
    clients = [server.client(request(b"x", "Connection: close")) for _ in range(20)]
    assert {client.answer().status for client in clients} == {200}
    assert server.post(b"x").status == 200
    assert time.monotonic() - start < 10


def test_body_in_pieces_arrives_whole(server: Server) -> None:
    """Each piece is read before the next is sent."""
    client = server.client()
    whole = request(b"0123456789", "Connection: close")
    for piece in (whole[i : i + 7] for i in range(0, len(whole), 7)):
        client.send(piece)
        server.post(b"")  # its answer means that the worker has seen the piece
    assert client.answer().body == b"0123456789"


def test_chunked_body_in_pieces_arrives_whole(server: Server) -> None:
    """Wherever it is cut, with an extension, a trailer, and what looks like the end."""
    client = server.client()
    whole = CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n3;a=b\r\nend\r\n0\r\nX-Sum: 1\r\n\r\n"
    for piece in (whole[i : i + 3] for i in range(0, len(whole), 3)):
        client.send(piece)
        server.post(b"")
    assert client.answer().body == b"\r\n0\r\n\r\nend"


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """The last one comes in two halves."""
    client = server.client(b"".join(request(b"%d" % i) for i in range(5)) + HALF_BODY)
    assert [client.answer().body for _ in range(5)] == [b"%d" % i for i in range(5)]
    client.send(b"67890" + CHUNKED + b"1\r\nx\r\n0\r\n\r\n")
    assert [client.answer().body for _ in range(2)] == [b"1234567890", b"x"]


def test_connection_is_kept_alive(server: Server) -> None:
    """Request after request on one connection, however long it was idle before."""
    client = server.client()
    for number in range(20):
        client.send(request(b"%d" % number))
        assert client.answer().body == b"%d" % number
        server.post(b"")


def test_idle_connection_is_closed(serve: Serve) -> None:
    """After gunicorn's `keepalive`, as ever."""
    client = serve("Patient", "--keep-alive", "1").client(request(b"x"))
    assert client.answer().headers["connection"] == "keep-alive"
    assert client.rest() == b""


def test_more_clients_than_threads(server: Server) -> None:
    """All are connected before the first of them asks."""
    clients = [server.client() for _ in range(300)]
    for client in clients:
        client.send(request(b"x"))
    assert {client.answer().status for client in clients} == {200}


def test_full_worker_serves_again(serve: Serve) -> None:
    """The connections beyond `worker_connections` wait until the deadline has made room."""
    server = serve("Hasty", "--worker-connections", "10")
    half_sent = [server.client(HALF_HEAD) for _ in range(10)]
    assert server.post(b"x").status == 200
    assert {client.answer().status for client in half_sent} == {408}


def test_huge_body_is_refused_before_it_comes(server: Server) -> None:
    """The application decides by the header alone, and no thread waits for the rest."""
    start = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    clients = [server.client(start) for _ in range(10)]
    answers = [client.answer() for client in clients]
    assert {(a.status, a.headers["connection"]) for a in answers} == {(413, "close")}
    assert {client.rest() for client in clients} == {b""}


def test_refusal_reaches_a_client_that_sends_on(server: Server) -> None:
    """No reset while a long body is under way."""
    client = server.client(request(bytes(16 * 1024 * 1024)))
    assert client.answer().status == 413


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT, 431),
        (b"GET /" + b"x" * HEAD_LIMIT, 414),
        (CHUNKED + b"FFFFFFFF\r\n", 413),
        (CHUNKED + b"1\r\nx\r\n" * (BODY_LIMIT // 6 + 1), 413),
        (CHUNKED + b"1" * (BODY_LIMIT + 1), 413),
        (b"GET / HTTP/1.1\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: a miracle\r\n\r\n", 417),
    ],
)
def test_hopeless_request_is_refused_at_once(server: Server, start: bytes, status: int) -> None:
    """Nobody waits for the end of it."""
    client = server.client(start)
    assert client.answer().status == status
    assert client.rest() == b""


def test_cut_off_body_is_no_request_for_long(server: Server) -> None:
    """The client has closed its side: the parser sees the end at once."""
    client = server.client(HALF_BODY)
    client.socket.shutdown(socket.SHUT_WR)
    assert client.answer().body == b"12345"  # the echo takes it; the product's JSON would not


def test_expecting_clients_hold_no_thread(server: Server) -> None:
    """They are told to continue, once, and others are served before they do."""
    head = request(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 5")
    clients = [server.client(head) for _ in range(10)]
    assert {client.answer().status for client in clients} == {100}
    assert server.post(b"x").status == 200
    for client in clients:
        client.send(b"hello")
    assert {client.answer()[::2] for client in clients} == {(200, b"hello")}


def test_expecting_client_with_too_much_is_not_invited(server: Server) -> None:
    """The refusal is the first thing it reads."""
    head = request(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 70000")
    assert server.client(head).answer().status == 413


def test_clients_that_do_not_read_hold_no_thread_for_ever(serve: Serve) -> None:
    """Both threads send to somebody who does not listen, until the deadline."""
    server = serve("Hasty")
    for _ in range(4):
        server.client(request(b"", path="/big"))
    assert server.post(b"x").status == 200
    eventually(lambda: server.log.read_text().count("does not read") == 4)


def test_gone_clients_leave_nothing_behind(server: Server) -> None:
    """Descriptors are as few as before, however the clients left."""
    worker = server.worker
    before = worker.num_fds()
    for first in (b"", HALF_HEAD, HALF_BODY, request(b"x"), request(bytes(100_000))):
        for _ in range(20):
            with contextlib.suppress(ConnectionError):
                server.client(first).close()
    eventually(lambda: worker.num_fds() <= before)


class Held(NamedTuple):
    """A request that is under way until the test lets it go."""

    client: Client
    gate: int

    def go(self) -> Answer:
        """Let the application go on, and read its answer."""
        os.write(self.gate, b"done")
        os.close(self.gate)
        return self.client.answer()


def hold(server: Server, fifo: Path) -> Held:
    """Start a request that waits for the FIFO."""
    os.mkfifo(fifo)
    client = server.client(request(str(fifo).encode(), path="/hold"))
    # It opens for writing, without waiting, only when the application has it open for reading.
    return Held(client, eventually(lambda: os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)))


def test_term_finishes_the_request_under_way(serve: Serve, tmp_path: Path) -> None:
    """Half-sent requests, idle and silent connections around it don't delay the end."""
    server = serve("Patient", "--graceful-timeout", "60", "--keep-alive", "50")
    for first in (HALF_HEAD, HALF_BODY, b"", request(b"x")):
        server.client(first)
    held = hold(server, tmp_path / "gate")
    server.process.terminate()
    eventually(lambda: "Handling signal: term" in server.log.read_text())
    assert held.go()[::2] == (200, b"done")
    assert server.process.wait(timeout=30) == 0


def test_hup_drops_no_request(serve: Serve, tmp_path: Path) -> None:
    """The old worker finishes what it has, the new one takes over."""
    server = serve()
    old = server.worker
    server.client(HALF_HEAD)
    held = hold(server, tmp_path / "gate")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: server.log.read_text().count("Booting worker") == 2)
    assert {server.post(b"x").status for _ in range(50)} == {200}
    assert held.go().body == b"done"
    old.wait(timeout=30)


def test_worker_ends_after_its_master(serve: Serve) -> None:
    """Whoever is connected."""
    server = serve()
    worker = server.worker
    for first in (HALF_HEAD, HALF_BODY, b"", request(b"x")):
        server.client(first)
    server.process.kill()
    server.process.wait()
    worker.wait(timeout=20)  # less than gunicorn's graceful_timeout


def test_worker_is_replaced_after_its_last_request(serve: Serve) -> None:
    """`max_requests` is obeyed, half-sent requests or not."""
    server = serve("Patient", "--max-requests", "20")
    server.client(HALF_BODY)
    old = server.worker
    assert {server.post(b"x").status for _ in range(30)} == {200}
    old.wait(timeout=30)


def test_blocked_main_thread_is_aborted(serve: Serve) -> None:
    """The heartbeat comes from the main thread, and the master listens to it."""
    server = serve("Patient", "--timeout", "2")
    worker = server.worker
    worker.suspend()
    eventually(lambda: "WORKER TIMEOUT" in server.log.read_text())
    assert eventually(lambda: server.post(b"x").status == 200)

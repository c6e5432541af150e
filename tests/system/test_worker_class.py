"""The worker class told to end, to reload, or stuck: what becomes of requests under way."""

import os
import select
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.eventually import eventually
from tests.system.echo_app import BIG
from tests.system.echo_server import HALF_BODY, HALF_HEAD, Answer, Client, Serve, Server, request

pytestmark = pytest.mark.usefixtures("many_descriptors")


class Held(NamedTuple):
    """A request that is under way until the test lets it go."""

    client: Client
    gate: int

    def go(self, word: bytes = b"done") -> Answer:
        """Let the application go on, and read its answer."""
        os.write(self.gate, word)
        os.close(self.gate)
        return self.client.answer()


def hold(server: Server, fifo: Path, path: str = "/hold", *, more: bytes = b"") -> Held:
    """Start a request that waits for the FIFO, and send more on its connection."""
    os.mkfifo(fifo)
    client = server.client(request(str(fifo).encode(), path=path) + more)
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


def test_term_finishes_an_answer_that_is_read_slowly(serve: Serve) -> None:
    """The rest of it is sent after the worker has been told."""
    server = serve("Patient", "--graceful-timeout", "60")
    client = server.client(request(b"", path="/big"))
    select.select([client.socket], [], [])
    assert server.post(b"x").status == 200
    server.process.terminate()
    eventually(lambda: "Handling signal: term" in server.log.read_text())
    assert client.answer().body == bytes(BIG)
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


def test_parked_requests_hold_no_thread(serve: Serve, tmp_path: Path) -> None:
    """There are two threads."""
    server = serve("Patient")
    parked = [hold(server, tmp_path / f"gate-{n}", "/park") for n in range(20)]
    assert server.post(b"x").body == b"x"
    for number, each in enumerate(reversed(parked)):
        assert each.go(b"%d" % number)[::2] == (200, b"%d" % number)
        each.client.send(request(b"again"))
        assert each.client.answer().body == b"again"


def test_what_follows_a_parked_request_is_answered_after_it(serve: Serve, tmp_path: Path) -> None:
    server = serve("Patient")
    held = hold(server, tmp_path / "gate", "/park", more=request(b"x") + request(b"y"))
    assert held.go().body == b"done"
    assert [held.client.answer().body for _ in range(2)] == [b"x", b"y"]


def test_an_answer_may_come_before_its_thread_knows_that_it_is_parked(serve: Serve) -> None:
    server = serve("Patient")
    client = server.client()
    for number in range(200):
        client.send(request(b"%d" % number, path="/at-once"))
        assert client.answer()[::2] == (200, b"%d" % number)


def test_a_client_that_leaves_a_parked_request_harms_nobody(serve: Serve, tmp_path: Path) -> None:
    server = serve("Patient")
    connections = server.connections()
    for number in range(5):
        held = hold(server, tmp_path / f"gate-{number}", "/park")
        held.client.close()
        os.write(held.gate, b"done")
        os.close(held.gate)
    eventually(lambda: server.connections() == connections)
    assert server.post(b"x").body == b"x"


def test_an_error_in_the_answer_to_a_parked_request_is_told(serve: Serve, tmp_path: Path) -> None:
    server = serve("Patient")
    held = hold(server, tmp_path / "gate", "/park")
    assert held.go(b"error").status == 500
    assert held.client.rest() == b""
    assert server.post(b"x").body == b"x"


def test_term_finishes_parked_requests(serve: Serve, tmp_path: Path) -> None:
    server = serve("Patient", "--graceful-timeout", "60")
    parked = [hold(server, tmp_path / f"gate-{n}", "/park") for n in range(5)]
    server.process.terminate()
    eventually(lambda: "Handling signal: term" in server.log.read_text())
    assert [each.go()[::2] for each in parked] == [(200, b"done")] * 5
    assert server.process.wait(timeout=30) == 0

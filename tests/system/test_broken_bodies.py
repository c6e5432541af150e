"""Bodies that are not what their heads say: a 400, nothing done, and the connection is over."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.echo_server import Client
from tests.system.gunicorns import Instance, gunicorn, ready

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def instance(module_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Return a gunicorn of one worker for all tests here."""
    folder: Path = tmp_path_factory.mktemp("bodies")
    with gunicorn(module_url, folder, env={"WEB_CONCURRENCY": "1"}) as instance:
        ready(instance)
        yield instance


def head(path: str) -> bytes:
    """Return the head of a POST, but for how long its body is."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


def refused(instance: Instance, sent: bytes, *, cut: bool) -> bytes:
    """Send a request, perhaps close our side, and return what its 400 says."""
    client = Client(instance.port, sent)
    if cut:
        client.socket.shutdown(socket.SHUT_WR)
    answer = client.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert client.rest() == b""
    client.close()
    return answer.body


@pytest.mark.parametrize("path", ["/users/1/balance", "/tasks", "/tasks/batch"])
@pytest.mark.parametrize(
    ("body", "cut"),
    [
        (b'zz\r\n{"amount": -5}\r\n0\r\n\r\n', False),
        (b'ff\r\n{"amount": -5}', True),
        (b'e\r\n{"amount": -5}XX0\r\n\r\n', False),
        (b'e\r\n{"amount": -5}', True),
    ],
    ids=["no size", "less than its size", "no end", "no last chunk"],
)
def test_chunks_that_make_no_sense_are_a_400(
    instance: Instance, path: str, body: bytes, cut: bool
) -> None:
    before = instance.get("/users/1")
    assert b"urn:ronin:problem:bad-request" in refused(
        instance, head(path) + CHUNKED + body, cut=cut
    )
    assert instance.get("/users/1") == before
    assert "Traceback" not in instance.said()


@pytest.mark.parametrize(
    ("path", "body"),
    [("/users/1/balance", b'{"amount": -5}'), ("/tasks", b'{"name": "x", "processing_time": 0}')],
)
def test_what_was_cut_off_is_not_done_though_it_is_json(
    instance: Instance, path: str, body: bytes
) -> None:
    before = instance.get("/users/1"), instance.get("/tasks")
    sent = head(path) + b"Content-Length: 100\r\n\r\n" + body
    assert f"{len(body)} bytes, of 100".encode() in refused(instance, sent, cut=True)
    assert (instance.get("/users/1"), instance.get("/tasks")) == before


def test_without_a_host_or_with_another_s_nobody_is_served(instance: Instance) -> None:
    """HTTP/1.1 wants one (RFC 9112, 3.2); and an absolute target goes before it."""
    for request, status in (
        (b"GET /jobs HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET http://evil.example/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        (b"GET http://localhost/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    ):
        client = Client(instance.port, request)
        assert client.answer().status == status, request
        client.close()

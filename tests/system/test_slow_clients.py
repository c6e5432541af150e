"""The worker class in a real gunicorn, with clients that are slow, silent, rude or in doubt."""

import contextlib
import select
import socket
import time

import pytest

from tests.eventually import eventually
from tests.system.echo_app import BIG
from tests.system.echo_server import HALF_BODY, HALF_HEAD, Serve, Server, request
from webapp.arrival import BODY_LIMIT, HEAD_LIMIT

pytestmark = pytest.mark.usefixtures("many_descriptors")
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


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
    """Nor a descriptor: after the deadline they are given up."""
    server = serve("Hasty")
    worker = server.worker
    assert server.post(b"x").status == 200
    before = worker.num_fds()
    for _ in range(4):
        server.client(request(b"", path="/big"))
    assert server.post(b"x").status == 200
    eventually(lambda: server.log.read_text().count("does not read") == 4)
    eventually(lambda: worker.num_fds() <= before)


def test_clients_that_do_not_read_hold_no_thread_at_all(serve: Serve) -> None:
    """Ten of them, two threads, and a deadline beyond the test's; one of them pipelines."""
    server = serve("Patient")
    clients = [server.client(request(b"", path="/big")) for _ in range(9)]
    clients.append(server.client(request(b"", path="/big") * 20))
    assert {server.post(b"x").status for _ in range(50)} == {200}
    poll = select.poll()
    for client in clients:
        poll.register(client.socket, select.POLLIN)
    eventually(lambda: len(poll.poll(0)) == len(clients))


def test_answer_is_whole_however_slowly_it_is_read(server: Server) -> None:
    """What the thread could not send comes after it, and then the answers to what came since."""
    client = server.client(request(b"", path="/big"))
    assert server.post(b"x").status == 200
    client.send(request(b"next") + request(b"last", "Connection: close"))
    assert client.answer().body == bytes(BIG)
    assert [client.answer().body for _ in range(2)] == [b"next", b"last"]
    assert client.rest() == b""


def test_client_that_reads_slowly_may_go(serve: Serve) -> None:
    """In the middle of its answer, with a reset or without."""
    server = serve("Patient")
    worker = server.worker
    assert server.post(b"x").status == 200
    before = worker.num_fds()
    for first in (request(b"", path="/big"), request(b"", path="/big") + HALF_BODY):
        for _ in range(5):
            client = server.client(first)
            select.select([client.socket], [], [])
            client.close()
    eventually(lambda: worker.num_fds() <= before)


def test_gone_clients_leave_nothing_behind(server: Server) -> None:
    """Descriptors are as few as before, however the clients left."""
    worker = server.worker
    before = worker.num_fds()
    for first in (b"", HALF_HEAD, HALF_BODY, request(b"x"), request(bytes(100_000))):
        for _ in range(20):
            with contextlib.suppress(ConnectionError):
                server.client(first).close()
    eventually(lambda: worker.num_fds() <= before)

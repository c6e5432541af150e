"""A threaded gunicorn worker that no slow client can stop.

- The main thread never waits for a client: it takes and gives what the kernel can at once.
- A thread never works for a client that has not sent its whole request: the main thread
  collects the bytes, within a deadline, and hands them over when they are complete.
- Nor does it wait for one that does not read: what the kernel does not take of an answer the main
  thread sends, within the same time.

A connection is in one place: with a thread, idle between two requests (`keepalived_conns`, as in
gunicorn), in `_waiting`, for its client to send a request or to close in time, or in `_sending`,
for its client to read. Only the main thread moves it. What a request *is* stays the business of
gunicorn's parser, which gets all bytes unchanged. Plain HTTP/1 only: TLS, HTTP/2 and the PROXY
protocol are for a proxy in front.
"""

import math
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import takewhile
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from cluster.nudge import nudge
from webapp.arrival import Arrival
from webapp.departure import Line
from webapp.parking import RESUME, Parked
from webapp.refusal import Overheard, refusal
from webapp.returns import Answered, Returns

RECEIVE_BYTES = 64 * 1024  # one read; most requests arrive in one


class Connection(TConn):  # type: ignore[misc] # gunicorn ships no types
    """A client's connection, and the request that arrives on it."""

    arrival: Arrival
    seconds = 0.0  # of each wait for the client
    watched = False  # by the poller, while it waits for its client
    settled = False  # answered, and nothing of the request can be on its way
    leaving = False  # gets nothing more; what it sends is thrown away

    def init(self) -> None:
        """Give the parser what the main thread has read. Each request calls it, in the thread.

        A thread may still wait, but not for ever, when the application insists on reading a body
        that is too long.
        """
        super().init()
        self.sock.settimeout(self.seconds)
        self.parser.unreader.unread(self.arrival.received)
        self.arrival.received.clear()

    def receive(self) -> bytes | None:
        """Return what is here: None if nothing is, b"" if nothing ever will be."""
        try:
            return bytes(self.sock.recv(RECEIVE_BYTES))
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def send(self, message: bytes) -> None:
        """Send a short message, if the kernel takes it at once: it does, but for a mad client."""
        with suppress(OSError):
            self.sock.send(message)


_PARKED = object()
"""What becomes of a request that its thread has left to somebody else."""


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's ThreadWorker, which reads and closes without waiting."""

    wsgi: Any  # the application as gunicorn calls it
    request_seconds = 10.0  # for a request to arrive, a client to read its answer, or to close
    told_at = math.inf  # monotonic, when it began to stop

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Both with the next deadline first.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._sending: OrderedDict[Connection, None] = OrderedDict()
        self._here = threading.local()
        self.method_queue = Returns()

    def init_process(self) -> None:
        """Work until the end. A worker that comes later does not end the service if it can't.

        gunicorn takes it for a mistake of the start. It is a deploy that is half done, and the
        workers that are there go on with the code they have.
        """
        try:
            super().init_process()
        except (Exception, SystemExit):
            if self.booted or self.age <= self.cfg.workers:
                raise
            self.log.exception("A new worker can't load the code; the next one tries again")
            time.sleep(1)  # gunicorn replaces it at once
            sys.exit(1)

    def accept(self, listener: Any) -> None:
        """Accept a connection, and mostly its first request with it."""
        with suppress(BlockingIOError, ConnectionAbortedError):  # taken by a sibling, or gone
            self._accept(listener)

    def _accept(self, listener: Any) -> None:
        sock, client = listener.accept()
        self.nr_conns += 1
        self._await_request(Connection(self.cfg, Line(sock), client, listener.getsockname()))

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """Begin with the next request of an idle connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_request(conn)

    def _await_request(self, conn: Connection, piece: bytes = b"") -> None:
        conn.arrival = Arrival()
        conn.settled = False
        conn.seconds = self.request_seconds
        conn.data_ready = True  # for gunicorn: a thread need not look first
        self._wait(conn)
        self._read(conn, piece)

    def _read(self, conn: Connection, piece: bytes | None = b"") -> None:
        """Read what is here; the poller calls again when there is more."""
        piece = piece or conn.receive()
        if piece is None:
            self._watch(conn)
        elif not piece and (conn.leaving or not conn.arrival.received):
            self._drop(conn)
        elif not conn.leaving:
            self._take(conn, piece)

    def _take(self, conn: Connection, piece: bytes) -> None:
        """Add to the request, and give it to a thread when a thread can go on."""
        arrival, invited = conn.arrival, conn.arrival.expects_continue
        if arrival.add(piece) or not piece:  # at the end of the input it does not wait either
            self._unwait(conn)
            self.enqueue_req(conn)
        elif arrival.refusal:
            self._refuse(conn, arrival.refusal)
        else:
            if arrival.expects_continue and not invited:  # said here: a thread would have to wait
                conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._watch(conn)

    def _refuse(self, conn: Connection, status: int) -> None:
        self.log.debug("Refused a request from %s: %s", conn.client, status)
        conn.send(refusal(status))
        self._hang_up(conn)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Leave in order on Ctrl-C too, which comes twice: from the terminal and the master.

        gunicorn takes the lock of its thread pool here. The second signal may come while the
        first one has it, on this same thread, which then waits for itself.
        """
        self.handle_exit(sig, frame)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what the parser refuses, in the thread; gunicorn logs it and knows the status."""
        overheard = Overheard()
        super().handle_error(req, overheard, addr, exc)
        with suppress(OSError):
            client.sendall(refusal(overheard.status))

    def load_wsgi(self) -> None:
        """Load the application, and let it park requests."""
        super().load_wsgi()
        self._application, self.wsgi = self.wsgi, self._call

    def enqueue_req(self, conn: Connection) -> None:
        """Give a request to a thread; it comes back from there, unless it was parked."""
        done = self.tpool.submit(self.handle, conn)
        done.add_done_callback(partial(self._give_back, conn))

    def _give_back(self, conn: Connection, done: Any) -> None:
        """Give a request back to the main thread, from another one."""
        if done.cancelled() or done.exception() or done.result() is not _PARKED:
            self.method_queue.defer(self.finish_request, conn, done)

    def _call(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Call the application, and tell it how a request that it parks is answered."""
        resp = start_response.__self__
        environ[RESUME] = partial(self._resume, self._here.conn, resp, time.monotonic())
        return self._application(environ, start_response)

    def _resume(self, conn: Connection, resp: Any, began: float, environ: dict[str, Any]) -> None:
        """Answer a request that was parked: what gunicorn does after it has called."""
        keep: object = False
        try:
            for piece in self._application(environ, resp.start_response):
                resp.write(piece)
            resp.close()
            took = timedelta(seconds=time.monotonic() - began)
            self.log.access(resp, resp.req, environ, took)
            conn.settled = conn.arrival.whole
            keep = self._keepalive_after(conn, not resp.should_close())
        except OSError as error:
            self.log.debug("The client of a parked request has gone: %s", error)
        except Exception as error:  # noqa: BLE001 - whoever brings answers has others to bring
            self.handle_error(resp.req, conn.sock, conn.client, error)
        self.method_queue.defer(self.finish_request, conn, Answered(keep))

    def handle_request(self, req: Any, conn: Connection) -> object:
        """Run the application, in the thread."""
        self._here.conn = conn
        if not conn.arrival.whole:
            req.force_close()  # nobody knows where the next request would start
        if conn.arrival.expects_continue:
            req._expected_100_continue = False  # noqa: SLF001 - no other way; _take has said it
        try:
            keep = bool(super().handle_request(req, conn))
        except TimeoutError:
            self.log.warning("Gave up on a client that does not send: %s", conn.client)
            return False
        except Parked:
            return _PARKED  # and touch it no more: it may be answered already
        conn.settled = conn.arrival.whole
        return keep

    def _keepalive_after(self, conn: Connection, keepalive: object) -> object:
        """Skip what the application left of the body, which is here: no need of a timeout."""
        if keepalive is _PARKED:
            return keepalive
        return keepalive and bool(conn.parser.finish_body())

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Take a connection back from its thread. `fs` is the thread's Future."""
        try:
            fs.result()
            conn.sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
        except Exception:
            self.log.exception("Lost a connection")
            self._drop(conn)
            return
        conn.timeout = time.monotonic() + self.request_seconds
        self._send_on(conn, fs)

    def _send_on(self, conn: Connection, fs: Any) -> None:
        """Send what there is room for; when all is sent, wait for what comes next."""
        try:
            sent = conn.sock.send_on()
        except OSError:
            self._drop(conn)
            return
        if not sent:
            self._sending[conn] = None
            self._watch(conn, EVENT_WRITE, lambda: self._send_on(conn, fs))
            return
        self._unwait(conn)
        if not fs.result():
            self._hang_up(conn)
        elif pipelined := conn.parser.unreader.take_buffered():
            self._await_request(conn, pipelined)
        else:
            super().finish_request(conn, fs)

    def _hang_up(self, conn: Connection) -> None:
        """Close, but not on input: the kernel would send a reset, and the answer be lost."""
        unread = conn.receive()
        if unread == b"" or (unread is None and conn.settled):
            self._drop(conn)
            return
        conn.leaving = True
        with suppress(OSError):  # it has gone: the poller will tell
            conn.sock.shutdown(socket.SHUT_WR)
        self._waiting.pop(conn, None)  # to the end
        self._wait(conn)
        self._watch(conn)

    def _drop(self, conn: Connection) -> None:
        self._unwait(conn)
        self.nr_conns -= 1
        conn.close()

    def _wait(self, conn: Connection) -> None:
        """Start the deadline. All get the same time, so that they are in order."""
        seconds = self.request_seconds if self.alive else STOP_KEEPALIVE_LINGER
        conn.timeout = time.monotonic() + seconds
        self._waiting[conn] = None

    def _watch(
        self, conn: Connection, event: int = EVENT_READ, act: Callable[[], None] | None = None
    ) -> None:
        """Let the poller call, by default to read."""
        if not conn.watched:
            conn.watched = True
            call = act or (lambda: self._read(conn))
            self.poller.register(conn.sock, event, lambda _client: call())

    def _unwait(self, conn: Connection) -> None:
        self._waiting.pop(conn, None)
        self._sending.pop(conn, None)
        if conn.watched:
            conn.watched = False
            self.poller.unregister(conn.sock)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, but not beyond the next deadline."""
        for waiting in filter(None, (self._waiting, self._sending)):
            timeout = min(timeout, next(iter(waiting)).timeout - time.monotonic())
        super().wait_for_and_dispatch_events(max(timeout, 0.0))

    def murder_pending(self) -> None:
        """Part with clients whose time is over. Called after each round of events."""
        now = time.monotonic()
        for conn in list(takewhile(lambda conn: conn.timeout <= now, self._sending)):
            self.log.warning("Gave up on a client that does not read: %s", conn.client)
            self._drop(conn)
        for conn in list(takewhile(lambda conn: conn.timeout <= now, self._waiting)):
            conn.settled = not self.alive  # a worker that stops does not wait once more
            if conn.leaving or not conn.arrival.received:
                self._drop(conn)
            else:
                self._refuse(conn, 408)

    def _cap_keepalive(self, deadline: float) -> None:
        """Shut the door and shorten all deadlines. Called once, when the worker begins to stop."""
        self.alive = False  # gunicorn leaves it at True when the master has died
        self.told_at = time.monotonic()
        nudge.set()  # the job side hands its runs over at once
        self._shut_the_door()
        super()._cap_keepalive(deadline)
        for conn in self._waiting:
            conn.timeout = min(conn.timeout, deadline)

    def _shut_the_door(self) -> None:
        """Take in who stands in the kernel's queue, and listen no more.

        Who came later would wait there for the last worker's end, and then be reset; when the
        whole service ends, nobody comes later: see `newcomers`.
        """
        for listener in self.sockets:
            with suppress(OSError):  # the queue is empty
                while self.nr_conns < self.worker_connections:
                    self._accept(listener)
            listener.close()

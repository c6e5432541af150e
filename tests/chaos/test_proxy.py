"""The proxy misbehaves as its mode says, for connections that are open too."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy
from tests.eventually import eventually


class Echo:
    """A server on a Unix socket that answers what it hears, and remembers it."""

    def __init__(self, path: Path) -> None:
        self.heard = b""
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while data := connection.recv(65536):
                self.heard += data
                connection.sendall(data)

    def end(self) -> None:
        """Listen no more."""
        self._path.unlink(missing_ok=True)
        self._listener.close()


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    made = Echo(tmp_path / "echo")
    yield made
    made.end()


@pytest.fixture
def proxy(echo: Echo, tmp_path: Path) -> Iterator[Proxy]:
    assert not echo.heard
    with Proxy(str(tmp_path / "echo")) as made:
        yield made


@contextmanager
def client(proxy: Proxy, patience: float = 10) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), patience) as connection:
        yield connection


def answered(connection: socket.socket, said: bytes) -> bool:
    connection.sendall(said)
    return connection.recv(65536) == said


def silent(connection: socket.socket) -> bool:
    """Tell whether nothing comes for a while, and no end either."""
    connection.settimeout(0.3)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def broken(connection: socket.socket) -> bool:
    """Tell whether the connection is reset, or ends."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_it_passes_on_what_both_sides_say(proxy: Proxy) -> None:
    with client(proxy) as one, client(proxy) as other:
        assert answered(one, b"first")
        assert answered(other, b"second")


def test_cut_resets_open_connections_and_refuses_new_ones(proxy: Proxy) -> None:
    with client(proxy) as connection:
        assert answered(connection, b"hello")
        proxy.set("cut")
        assert broken(connection)
    with client(proxy) as connection:
        assert broken(connection)
    proxy.set("pass")
    with client(proxy) as connection:
        assert answered(connection, b"hello")


def test_delay_loses_nothing(proxy: Proxy) -> None:
    proxy.set("delay", 0.2)
    with client(proxy) as connection:
        assert all(answered(connection, bytes([number])) for number in range(10))


def test_halve_tears_a_message_in_the_middle(proxy: Proxy, echo: Echo) -> None:
    with client(proxy) as connection:
        proxy.set("halve")
        connection.sendall(b"0123456789")
        eventually(lambda: echo.heard == b"01234")
        assert silent(connection)
        proxy.set("pass")
        assert broken(connection)
    assert echo.heard == b"01234"


def test_swallow_takes_everything_and_answers_nothing(proxy: Proxy, echo: Echo) -> None:
    with client(proxy) as connection:
        assert answered(connection, b"before")
        proxy.set("swallow")
        connection.sendall(b"lost")
        with client(proxy) as later:
            later.sendall(b"lost too")
            assert silent(later)
        assert silent(connection)
        proxy.set("pass")
        assert broken(connection)
    assert echo.heard == b"before"


def test_mute_loses_the_answers_alone(proxy: Proxy, echo: Echo) -> None:
    with client(proxy) as connection:
        proxy.set("mute")
        connection.sendall(b"commit")
        eventually(lambda: echo.heard == b"commit")
        assert silent(connection)
        connection.sendall(b" again")
        eventually(lambda: echo.heard == b"commit again")
        proxy.set("pass")
        assert broken(connection)


def test_a_connection_that_lost_nothing_outlives_the_mode(proxy: Proxy) -> None:
    with client(proxy) as connection:
        assert answered(connection, b"before")
        proxy.set("swallow")
        proxy.set("pass")
        assert answered(connection, b"after")


def test_a_server_that_is_away_is_a_reset(proxy: Proxy, echo: Echo) -> None:
    echo.end()
    with client(proxy) as connection:
        assert broken(connection)

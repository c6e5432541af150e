"""Servers of our worker class, for the tests of it."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.echo_server import Serve, Server


@pytest.fixture(scope="module")
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


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a server for this test alone."""
    with contextlib.ExitStack() as stack:

        def start(temper: str = "Patient", *options: str) -> Server:
            server = Server(tmp_path / "log", temper, *options)
            stack.callback(server.stop)
            return server.wait()

        yield start

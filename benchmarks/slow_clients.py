"""Measure what others notice of a thousand slow clients: `slowhttptest` in all of its modes.

    python benchmarks/slow_clients.py [--connections 1000] [--seconds 30] [--only H,E]

Starts a PostgreSQL and five workers in a temporary folder, all sample jobs under way. While the
slow ones hold their connections, another client asks for the health, a page and a task by turns,
over a new connection each time. Ends with status 1 if one of its requests was not answered within
five seconds (after so long slowhttptest itself calls a service unavailable), or answered wrongly.
`slowhttptest` is a package of Debian and of Homebrew.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.burst import raise_descriptor_limit
from benchmarks.figures import Figure, centiles, say
from tests.system.facts import database, shares
from tests.system.gunicorns import gunicorn, server_of

PATIENCE_SECONDS = 5.0
MODES = {
    "": ("nobody", ""),
    "H": ("slow headers", "-H -i 2 -u {url}/"),
    "B": ("slow bodies", "-B -i 2 -s 8192 -f application/json -u {url}/tasks"),
    "L": ("slow long bodies", "-B -i 2 -s 4194304 -f application/json -u {url}/tasks/batch"),
    "R": ("ranges", "-R -i 2 -u {url}/static/ronin.css"),
    "X": ("slow readers", "-X -w 1 -y 512 -n 2 -z 16 -k 3 -u {url}/openapi.json"),
    "P": ("slow readers of a page", "-X -w 1 -y 512 -n 2 -z 16 -k 3 -u {url}/"),
    "E": ("slow readers by Ethernet", ""),
}
"""The letter of slowhttptest's mode, but L, P and E are ours; what it is; the options.

E is done here. Over loopback a segment has 64 KiB, and the kernel takes an answer of 2.6 MB for a
client that reads nothing; with segments of Ethernet's size it takes 40 KB, and slowhttptest can't
ask for these.
"""

_SEGMENT_BYTES = 1460
_LARGE = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
_READ_SECONDS = 2.0

_TURNS = (
    ("GET", "/health", None, 200),
    ("GET", "/", None, 200),
    ("POST", "/tasks", {"name": "beside", "processing_time": 0}, 201),
)
_REST_SECONDS = 0.05
_COME_SECONDS = 5
_SETTLE_SECONDS = 6.0
"""Until the slow ones are there, and after they have gone."""


@dataclass(slots=True)
class Others:
    """What everybody else was told.

    Attributes:
        seconds: that each request took, those without an answer too.
        wrong: what came in place of the answer.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def ask(self, port: int, seconds: float) -> None:
        """Ask by turns for so long."""
        ends = time.monotonic() + seconds
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Connection": "close"},
            timeout=PATIENCE_SECONDS,
        ) as http:
            while time.monotonic() < ends:
                for method, path, body, status in _TURNS:
                    begun = time.monotonic()
                    self._ask(http, method, path, body, status)
                    self.seconds.append(time.monotonic() - begun)
                    time.sleep(_REST_SECONDS)

    def _ask(self, http: httpx.Client, method: str, path: str, body: object, status: int) -> None:
        try:
            got = http.request(method, path, json=body)
        except httpx.HTTPError as error:
            self.wrong.append(f"{method} {path}: {error!r}")
            return
        if got.status_code != status:
            self.wrong.append(f"{method} {path}: {got.status_code} {got.text[:200]}")


def main() -> int:
    """Run the measurement; return 1 if somebody was not answered."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30, help="with each sort of clients")
    parser.add_argument("--only", default="", help="of H, B, L, R, X, P, E")
    options = parser.parse_args()
    if not shutil.which("slowhttptest"):
        sys.exit("slowhttptest is not on PATH; on Debian: apt install slowhttptest")
    raise_descriptor_limit(options.connections)
    chosen = ["", *(options.only.split(",") if options.only else [each for each in MODES if each])]
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        database(server) as url,
        gunicorn(url, Path(folder), env={"RONIN_SAMPLE_SECONDS": "900"}) as instance,
    ):
        shares(url)
        wrong = [
            words
            for mode in chosen
            for words in measure(instance.port, mode, options.connections, options.seconds)
        ]
    for words in wrong[:10]:
        print(words)
    return int(bool(wrong))


def measure(port: int, mode: str, connections: int, seconds: float) -> list[str]:
    """Print the figures beside one sort of slow clients; return what was wrong."""
    name, given = MODES[mode]
    others = Others()
    beside = readers(port, connections) if mode == "E" else slow(port, given, connections, seconds)
    with beside as there:
        others.ask(port, seconds)
    half, most = centiles(others.seconds)
    note = f"{len(others.seconds)} requests, {len(others.wrong)} without a good answer"
    most_there = f", {max(there, default=0)} slow ones at a time" if mode else ""
    say(Figure(f"an answer beside {name}, p50", 1000 * half, "ms", note=note + most_there))
    say(Figure(f"an answer beside {name}, p99", 1000 * most, "ms"))
    say(Figure(f"an answer beside {name}, worst", 1000 * max(others.seconds), "ms"))
    return others.wrong


@contextmanager
def slow(port: int, given: str, connections: int, seconds: float) -> Iterator[list[int]]:
    """Keep slow clients at work for the block; give how many there were at each look."""
    there: list[int] = []
    if not given:
        yield there
        return
    command = ["slowhttptest", *given.format(url=f"http://127.0.0.1:{port}").split()]
    command += ["-c", str(connections), "-r", str(-(-connections // _COME_SECONDS))]
    command += ["-p", f"{PATIENCE_SECONDS:.0f}", "-l", f"{seconds + _SETTLE_SECONDS:.0f}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(_SETTLE_SECONDS)
            yield there
        finally:
            process.terminate()
            said, _ = process.communicate()
            plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
            there += [int(count) for count in re.findall(r"connected:\s+(\d+)", plain)]
    time.sleep(_SETTLE_SECONDS)


@contextmanager
def readers(port: int, connections: int) -> Iterator[list[int]]:
    """Keep clients that hardly read for the block, as `slow` does; the lost ones come back."""
    there: list[int] = []
    over = threading.Event()

    def read() -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(_reader(port)) for _ in range(connections)]
            while not over.wait(_READ_SECONDS):
                lost = [client for client in clients if not _reads(client)]
                there.append(len(clients) - len(lost))
                for client in lost:
                    client.close()
                    clients.remove(client)
                    clients.append(stack.enter_context(_reader(port)))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        time.sleep(_SETTLE_SECONDS)
        yield there
    finally:
        over.set()
        thread.join()
    time.sleep(_SETTLE_SECONDS)


def _reader(port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)  # noqa: FBT003 - the socket's own signature
    client.sendall(3 * _LARGE)
    return client


def _reads(client: socket.socket) -> bool:
    """Read a little; tell whether the connection is still there."""
    try:
        return bool(client.recv(16))
    except BlockingIOError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())

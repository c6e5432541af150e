"""etcd: the store by which the nodes agree who is the primary."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.eventually import eventually
from tests.failover.programs import Programs
from tests.system.gunicorns import free_port

SECTIONS = ("etcd", "etcd3")
"""Of Patroni's settings: by which interface it speaks to etcd. With `etcd3`, Patroni before 3.0.3
takes the office back when it wakes up after its time (patroni/patroni#2689), and what was
acknowledged meanwhile is lost. Debian 12 has 3.0.2."""


@dataclass(frozen=True, slots=True)
class Etcd:
    """An etcd.

    Attributes:
        port: for clients.
        section: one of `SECTIONS`.
    """

    port: int
    section: str


@contextmanager
def etcd(programs: Programs, data: Path, log: Path, section: str) -> Iterator[Etcd]:
    """Run one in a folder of its own."""
    client, peer = free_port(), free_port()
    here, there = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    arguments = {
        "data-dir": str(data),
        "listen-client-urls": here,
        "advertise-client-urls": here,
        "listen-peer-urls": there,
        "initial-advertise-peer-urls": there,
        "initial-cluster": f"default={there}",
        "enable-v2": "true",
        "logger": "zap",
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [programs.etcd, *(f"--{key}={value}" for key, value in arguments.items())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            eventually(lambda: httpx.get(f"{here}/health").json()["health"] == "true", within=60)
            yield Etcd(client, section)
        finally:
            process.kill()

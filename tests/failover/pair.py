"""The pair: two nodes in step, of which one is the primary, and the etcd that they agree by."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.eventually import eventually
from tests.failover.etcd import Etcd, etcd
from tests.failover.node import Node
from tests.failover.programs import Programs
from tests.system.facts import rows

START_SECONDS = 180.0
"""For initdb and a base backup, or a rewind, on a busy machine."""


class Pair:
    """Two nodes.

    Attributes:
        nodes: both.
    """

    def __init__(self, folder: Path, etcd: Etcd, programs: Programs) -> None:
        self.nodes = [Node(name, folder, etcd, programs) for name in ("north", "south")]
        self._patronictl = programs.patronictl

    @property
    def url(self) -> str:
        """What an operator gives to Ronin: both nodes, and the wish for the one that writes.

        Two seconds for each to answer: less than a caller waits for a connection.
        """
        hosts = ",".join("127.0.0.1" for _ in self.nodes)
        ports = ",".join(str(node.port) for node in self.nodes)
        wish = "target_session_attrs=read-write&connect_timeout=2"
        return f"postgresql://postgres@/postgres?host={hosts}&port={ports}&{wish}"

    def start(self) -> None:
        """Start both, and return when they are in step."""
        for node in self.nodes:
            node.start()
        self.in_step()

    def in_step(self, within: float = START_SECONDS) -> tuple[Node, Node]:
        """Wait until one is the primary and the other follows synchronously; return them so.

        Raises:
            AssertionError: they don't come so far.
        """
        return eventually(self._in_step, within=within, every=0.2)

    def _in_step(self) -> tuple[Node, Node]:
        for primary, standby in (self.nodes, self.nodes[::-1]):
            members = primary.members()
            if members.get(primary.name) != ("leader", "running"):
                continue
            # Patroni has to know it, who alone promotes it, and PostgreSQL, who alone waits for it.
            role, state = members.get(standby.name, ("", ""))
            query = "SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"
            if (
                role == "sync_standby"
                and state in ("running", "streaming")
                and rows(primary.url, query)
            ):
                return primary, standby
        raise AssertionError([node.members() for node in self.nodes])

    def switch_over(self, primary: Node, standby: Node) -> subprocess.Popen[bytes]:
        """Begin a planned switchover."""
        return subprocess.Popen(
            [
                *(self._patronictl, "-c", str(primary.config), "switchover", "--force"),
                *("--master", primary.name, "--candidate", standby.name),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )

    def end(self) -> None:
        """End both."""
        for node in self.nodes:
            node.end()


@contextmanager
def pair(programs: Programs, folder: Path, section: str) -> Iterator[Pair]:
    """Run etcd and two nodes; their data goes at the end, their logs stay in the folder."""
    with tempfile.TemporaryDirectory(prefix="ronin-failover-") as name:
        data = Path(name)
        data.chmod(0o755)
        with etcd(programs, data / "etcd", folder / "etcd.log", section) as store:
            made = Pair(data, store, programs)
            try:
                made.start()
                yield made
            finally:
                made.end()
                for log in data.glob("*.log"):
                    shutil.copy(log, folder)

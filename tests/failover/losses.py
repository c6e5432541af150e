"""The losses: how a primary is lost, and how the old one comes back."""

import subprocess
import threading
from collections.abc import Callable, Generator

from tests.failover.node import TTL_SECONDS, Node
from tests.failover.pair import Pair

ORPHAN_SECONDS = 10.0
"""From the end of an orphan's office until somebody looks after it."""
Steps = Generator[None, None, None]
"""Loses the primary, and yields; goes on when the cluster has, and mends what is to be mended."""


def kill(_pair: Pair, primary: Node, _standby: Node) -> Steps:
    """Kill -9 everything on the host; start it again later."""
    primary.kill()
    yield
    primary.start()


def crash(_pair: Pair, primary: Node, _standby: Node) -> Steps:
    """Let PostgreSQL die; Patroni brings it back by itself."""
    primary.crash()
    yield


def freeze(_pair: Pair, primary: Node, _standby: Node) -> Steps:
    """Stop everything on the host; let it go on, a primary that nobody has told of its end."""
    primary.freeze()
    yield
    primary.thaw()


def switchover(pair: Pair, primary: Node, standby: Node) -> Steps:
    """Hand over by plan."""
    with pair.switch_over(primary, standby) as command:
        yield
        try:
            said, _ = command.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            command.kill()
            raise
        if command.returncode:
            raise AssertionError(f"patronictl: {said.decode(errors='replace')}")


def orphan(_pair: Pair, primary: Node, _standby: Node) -> Steps:
    """Kill -9 Patroni alone, and start it again when the other one is the primary as well."""
    primary.orphan()
    back = threading.Timer(TTL_SECONDS + ORPHAN_SECONDS, primary.start)
    back.start()
    try:
        yield
        back.join()
    finally:
        back.cancel()


LOSSES: dict[str, Callable[[Pair, Node, Node], Steps]] = {
    "kill": kill,
    "crash": crash,
    "freeze": freeze,
    "switchover": switchover,
    "orphan": orphan,
}

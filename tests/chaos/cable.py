"""A network of its own for one instance, with a cable that can be cut in either direction."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NOBODY = "02:00:00:00:00:01"  # frames for this address are dropped by whoever gets them


@dataclass(frozen=True, slots=True)
class Cable:
    """A pair of network devices; one end is ours, the other lies in a network namespace.

    Attributes:
        name: of the namespace.
        ours: our device.
        theirs: the other.
        our_address: where the database is for the other end.
        their_address: where that is.
    """

    name: str
    ours: str
    theirs: str
    our_address: str
    their_address: str

    def cut(self, direction: str) -> None:
        """Lose every packet without a word: `both`, `to the database` or `from it`."""
        if direction in ("both", "to the database"):
            self._guest("ip", *self._neighbour(self.our_address, self.theirs))
        if direction in ("both", "from it"):
            _run("ip", *self._neighbour(self.their_address, self.ours))

    def mend(self) -> None:
        """Let packets through again."""
        self._guest("ip", "neigh", "flush", "dev", self.theirs, "nud", "permanent")
        _run("ip", "neigh", "flush", "dev", self.ours, "nud", "permanent")

    def _neighbour(self, address: str, device: str) -> tuple[str, ...]:
        return ("neigh", "replace", address, "lladdr", _NOBODY, "dev", device, "nud", "permanent")

    def _guest(self, *command: str) -> None:
        _run("ip", "netns", "exec", self.name, *command)


@contextmanager
def cable() -> Iterator[Cable]:
    """Lay a cable to a new network namespace; needs root."""
    number = os.getpid() % 100000
    # Two processes at once have different ones, unless their numbers are 16,384 apart.
    our, their = (f"10.77.{number // 64 % 256}.{number % 64 * 4 + end}" for end in (1, 2))
    laid = Cable(f"ronin-{number}", f"rn{number}a", f"rn{number}b", our, their)
    inside = ("ip", "-n", laid.name)
    _run("ip", "netns", "add", laid.name)
    try:
        pair = ("type", "veth", "peer", "name", laid.theirs, "netns", laid.name)
        _run("ip", "link", "add", laid.ours, *pair)
        _run("ip", "addr", "add", f"{laid.our_address}/30", "dev", laid.ours)
        _run("ip", "link", "set", laid.ours, "up")
        _run(*inside, "addr", "add", f"{laid.their_address}/30", "dev", laid.theirs)
        _run(*inside, "link", "set", laid.theirs, "up")
        _run(*inside, "link", "set", "lo", "up")
        yield laid
    finally:
        _run("ip", "netns", "del", laid.name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)

"""What the Python peers share: the sub-commands, and the stamps of what a process has performed.

Needs nothing beyond the standard library, since every peer has a virtual environment of its own.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PERIOD_S = 0.02
"""How often a process writes its stamp; the driver's clock is no finer than that."""

DEFAULT, BEST = "default", "best"


@dataclass(frozen=True)
class Peer:
    """What a peer does for each sub-command."""

    name: str
    """The package whose version is reported, too."""
    settings: str
    """What the chosen profile sets, in words, with the values."""
    prepare: Callable[[], None]
    enqueue: Callable[[int], None]
    work: Callable[[], None]


def profile() -> str:
    """Return which settings are asked for."""
    chosen = os.environ.get("PROFILE", DEFAULT)
    if chosen not in (DEFAULT, BEST):
        raise SystemExit(f"PROFILE is {DEFAULT} or {BEST}, not {chosen!r}")
    return chosen


def run(peer: Peer) -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=f"{peer.name} as a peer of the drain benchmark.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("prepare", "work", "settings"):
        commands.add_parser(name)
    commands.add_parser("enqueue").add_argument("jobs", type=int)
    options = parser.parse_args()
    if options.command == "enqueue":
        began = time.perf_counter()
        peer.enqueue(options.jobs)
        print(time.perf_counter() - began)
    elif options.command == "settings":
        print(json.dumps(_described(peer)))
    else:
        {"prepare": peer.prepare, "work": peer.work}[options.command]()


def _described(peer: Peer) -> dict[str, str]:
    return {
        "peer": peer.name,
        "version": version(peer.name),
        "profile": profile(),
        "settings": peer.settings,
    }


class Stamps:
    """How many jobs this process has performed, and when the first and the last of them.

    Counted in memory, which is all that a job pays for; a thread writes it down.
    """

    def __init__(self) -> None:
        self._count = 0
        self._first = 0.0
        self._last = 0.0
        self._lock = threading.Lock()

    def note(self) -> None:
        """Count a call, now."""
        now = time.time()
        with self._lock:  # some peers call from several threads
            self._count += 1
            self._first = self._first or now
            self._last = now

    def start(self) -> None:
        """Write the stamp of the calling process from now on; after its last fork."""
        threading.Thread(target=self._write_on, name="stamps", daemon=True).start()

    def ready(self) -> None:
        """Say that the calling process takes jobs now."""
        _file("ready").touch()

    def _write_on(self) -> None:
        target, draft = _file("stamp"), _file("stamp.new")
        written = -1
        while True:
            with self._lock:
                count, first, last = self._count, self._first, self._last
            if count != written:
                draft.write_text(f"{count} {first:.6f} {last:.6f}\n")
                draft.rename(target)  # a reader never sees half of it
                written = count
            time.sleep(PERIOD_S)


def _file(kind: str) -> Path:
    return Path(os.environ["STAMPS"]) / f"{os.getpid()}.{kind}"

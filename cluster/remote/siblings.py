"""Siblings: the other processes of a Procfile.

Honcho kills what still runs five seconds after the first process has ended, so whoever has
nothing left to do waits for who has.
"""

import contextlib
import os
import subprocess
import time
from pathlib import Path


def outlive_siblings() -> None:
    """Wait until the other processes of the Procfile have ended."""
    # Honcho forks itself for each line of it; our parent is such a fork, and looks as they do.
    parent = os.getppid()
    like = _processes().get(parent)
    while any(pid != parent and seen == like for pid, seen in _processes().items()):
        time.sleep(0.1)


def _processes() -> dict[int, tuple[int, str]]:
    """Return parent and command line of each process; a zombie's is empty."""
    if not Path("/proc/self/stat").exists():
        out = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid=,args="], text=True)
        lines = (line.split(None, 2) for line in out.splitlines())
        return {int(pid): (int(parent), "".join(args)) for pid, parent, *args in lines}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text(errors="replace")
            command = (folder / "cmdline").read_text(errors="replace")
            found[int(folder.name)] = (int(stat.rpartition(")")[2].split()[1]), command)
    return found

"""What this machine lets the suite do; what it does not is left out, and said."""

import os
import subprocess
import tempfile
from functools import cache

CABLES = "10.77.0.0/16"
"""The network in which cables have their two addresses each."""


@cache
def can_mount() -> bool:
    """Whether a small disk can be made."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        made = _works("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
        return made and _works("umount", folder)


@cache
def can_unplug() -> bool:
    """Whether a network of its own can be made, and cut."""
    name = f"ronin-trial-{os.getpid()}"
    if os.geteuid() != 0 or not _works("ip", "netns", "add", name):
        return False
    return _works("ip", "netns", "del", name)


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False

# ruff: noqa: INP001 - a command of the Dockerfile, no package
"""The part of requirements.lock that a running service needs, without the group `dev`.

The lock says of each package who asked for it (`# via`), so no second lock can lag behind the
first: what the product itself asks for stays, and what those ask for in turn. Standard library
only, because it runs before anything is installed.

    python deploy/runtime_lock.py requirements.lock [NAME …] [-NAME …] > runtime.lock

`NAME` stays as well, with what it needs; `-NAME` goes, with what only it needs.
"""

import re
import sys
from collections.abc import Collection
from pathlib import Path

PRODUCT = "ronin (pyproject.toml)"


def entries(lock: str) -> dict[str, str]:
    """Return the text of each package of a lock file, hashes and all, by its name."""
    blocks = re.findall(r"^\w.*\n(?:[ \t]+.*\n)*", lock, re.MULTILINE)
    return {re.split(r"[=\s\[]", block, maxsplit=1)[0]: block for block in blocks}


def asked_by(entry: str) -> set[str]:
    """Return who asks for a package, by its entry: packages, or the product."""
    said = entry.partition("# via")[2]
    return {line.strip(" #") for line in said.splitlines()} - {""}


def runtime(lock: str, also: Collection[str] = (), without: Collection[str] = ()) -> dict[str, str]:
    """Return the entries that are needed.

    Args:
        lock: the text of the lock file.
        also: packages that are needed although nobody asks for them, such as an extra's.
        without: packages that are not, although somebody does.

    Raises:
        ValueError: the lock has no such package.
    """
    packages = entries(lock)
    if strangers := {*also, *without} - packages.keys():
        raise ValueError(f"not in the lock: {', '.join(sorted(strangers))}")
    needed = {PRODUCT}
    while True:
        more = {
            name
            for name, entry in packages.items()
            if name not in without and (name in also or asked_by(entry) & needed)
        }
        if more <= needed:
            return {name: packages[name] for name in packages if name in needed}
        needed |= more


if __name__ == "__main__":
    path, *names = sys.argv[1:]
    chosen = runtime(
        Path(path).read_text(encoding="utf-8"),
        also=[name for name in names if not name.startswith("-")],
        without=[name[1:] for name in names if name.startswith("-")],
    )
    sys.stdout.write("".join(chosen.values()))

"""What the drill needs of the machine: Patroni, etcd and PostgreSQL, as Debian packs them."""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "patroni python3-etcd etcd-server postgresql"
_POSTGRES = Path("/usr/lib/postgresql")


class Missing(Exception):  # noqa: N818 - it is what is the matter
    """A program is not there; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are, and who runs them.

    Attributes:
        patroni: the daemon; `patronictl` its command, `etcd` the store.
        bin_dir: of PostgreSQL's own.
        account: that PostgreSQL accepts, for it does not run as root; None: our own.
    """

    patroni: str
    patronictl: str
    etcd: str
    bin_dir: Path
    account: str | None


def found() -> Programs:
    """Return where everything is.

    Raises:
        Missing: something is not there.
    """
    paths = {name: shutil.which(name) for name in ("patroni", "patronictl", "etcd")}
    lacks = [name for name, path in paths.items() if path is None]
    versions = sorted(_POSTGRES.glob("*/bin/pg_rewind"), key=lambda path: int(path.parts[-3]))
    if not versions:
        lacks.append("PostgreSQL")
    account = "postgres" if os.geteuid() == 0 else None
    if account and account not in {each.pw_name for each in pwd.getpwall()}:
        lacks.append("the account postgres")
    if lacks:
        raise Missing(f"{', '.join(lacks)} missing; on Debian 12: apt-get install {PACKAGES}")
    located = {name: str(path) for name, path in paths.items()}
    return Programs(**located, bin_dir=versions[-1].parent, account=account)

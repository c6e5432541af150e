"""Process facts: who this process is on its host, and proof that another one is dead.

Read from /proc in ticks since boot: times derived from the wall clock (as portable libraries
give them) move when the clock is set, and would then prove living processes dead. Without
/proc there is no proof, and a lease decides.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, for ever and everywhere: `host` is None where the kernel does not tell.

    Attributes:
        host: name, boot id and pid namespace; processes with equal hosts see each other's pids.
        pid: the process id.
        started: its start, in clock ticks since boot; tells a reused pid.
    """

    host: str | None
    pid: int
    started: int


def identity() -> Identity:
    """Return the identity of this process."""
    pid = os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
        started = _state(pid)[1]
    except OSError:
        return Identity(None, pid, 0)
    # The name as well: machines restored from one snapshot share boot id and namespace.
    return Identity(f"{os.uname().nodename} {boot} {namespace}", pid, started)


def mark(worker: Identity) -> str:
    """Return the argument by which the processes that perform runs for a worker are known."""
    return f"worker={worker.pid}.{worker.started}"


def is_dead(worker: Identity) -> bool:
    """Return True only with proof that a worker of this same host exists no more.

    Nor does any process that performs for it: these die with it, but perhaps a moment later.
    """
    return is_gone(worker) and not _has_performers(worker)


def is_gone(process: Identity) -> bool:
    """Return True only with proof that a process of this same host exists no more."""
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it exists and is another user's
    try:
        state, started = _state(process.pid)
        threads = list(Path(f"/proc/{process.pid}/task").iterdir())
    except OSError:
        # Gone since the line above, or hidden by the mount option hidepid: no proof.
        return False
    # A zombie is its first thread; the others may still have to die.
    return started != process.started or (state in "ZX" and len(threads) == 1)


def _has_performers(worker: Identity) -> bool:
    wanted = mark(worker).encode()
    return any(wanted in _arguments(folder) for folder in Path("/proc").glob("[0-9]*"))


def _arguments(folder: Path) -> list[bytes]:
    """Return a process's arguments; none once it can't run any more."""
    line = _read(folder / "cmdline")
    if not line:  # its first thread is a zombie, but others may live
        line = b"".join(_read(thread / "cmdline") for thread in folder.glob("task/*"))
    return line.split(b"\0")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _state(pid: int) -> tuple[str, int]:
    """Return state letter and start time of a process (fields 3 and 22 of proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    after_name = fields.rpartition(")")[2].split()
    return after_name[0], int(after_name[19])

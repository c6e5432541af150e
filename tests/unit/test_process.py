"""Proof of death: certain, or not given. With real processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import process
from cluster.process import Identity, identity, is_dead, is_gone, mark
from tests.eventually import eventually


def identity_of(pid: int) -> Identity:
    """Return the identity of a process of this host."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return Identity(identity().host, pid, int(stat.rpartition(")")[2].split()[19]))


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a child that does nothing, and see to its end."""
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        yield sleeper
        sleeper.kill()


def test_this_process_lives() -> None:
    assert not is_dead(identity())


def test_an_identity_is_the_same_whenever_it_is_asked() -> None:
    assert identity() == identity() == identity_of(os.getpid())


def test_a_child_is_of_the_same_host_and_lives(child: subprocess.Popen[bytes]) -> None:
    assert not is_dead(identity_of(child.pid))


def test_a_killed_process_is_dead(child: subprocess.Popen[bytes]) -> None:
    known = identity_of(child.pid)
    child.kill()
    child.wait()
    assert is_dead(known)


def test_a_zombie_is_dead(child: subprocess.Popen[bytes]) -> None:
    known = identity_of(child.pid)
    child.kill()
    assert eventually(lambda: is_dead(known))
    assert Path(f"/proc/{child.pid}").exists()


THREADS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)  # exit, of the first thread alone
"""
EXIT = {"x86_64": "60", "aarch64": "93"}


@pytest.mark.skipif(os.uname().machine not in EXIT, reason="this machine's number of exit(2)")
def test_a_zombie_whose_other_threads_live_is_not_dead() -> None:
    command = [sys.executable, "-c", THREADS, EXIT[os.uname().machine]]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        known = identity_of(child.pid)
        stat = Path(f"/proc/{child.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        assert not is_gone(known)
        assert not is_dead(known)
        child.kill()
    assert is_dead(known)


@pytest.mark.skipif(os.uname().machine not in EXIT, reason="this machine's number of exit(2)")
@pytest.mark.parametrize("program", ["import sys; sys.stdin.read()", THREADS])
def test_a_worker_is_not_dead_while_one_of_its_performers_has_a_thread_left(program: str) -> None:
    worker = replace(identity(), started=identity().started - 1)
    command = [sys.executable, "-c", program, EXIT[os.uname().machine], mark(worker)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as performer:
        tasks = Path(f"/proc/{performer.pid}/task")
        if program == THREADS:
            eventually(lambda: len(list(tasks.iterdir())) == 2)
            stat = Path(f"/proc/{performer.pid}/stat")
            eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        else:  # Popen comes back in the middle of exec, before the kernel tells the command
            eventually(lambda: Path(f"/proc/{performer.pid}/cmdline").read_bytes())
        assert is_gone(worker)
        assert not is_dead(worker)
        assert is_dead(replace(worker, started=worker.started - 1))  # another worker's
        performer.kill()
        eventually(lambda: is_dead(worker))


def test_a_stopped_process_lives(child: subprocess.Popen[bytes]) -> None:
    known = identity_of(child.pid)
    child.send_signal(19)
    eventually(lambda: Path(f"/proc/{child.pid}/stat").read_text().split(")")[1].split()[0] == "T")
    assert not is_dead(known)


def test_a_process_whose_pid_is_another_ones_now_is_dead() -> None:
    assert is_dead(replace(identity(), started=identity().started - 1))


def test_the_first_process_lives() -> None:
    assert not is_dead(identity_of(1))


def test_a_process_of_another_user_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not is_dead(identity_of(1))


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError, PermissionError])
def test_facts_that_the_kernel_does_not_tell_are_no_proof(
    error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It went while its facts were read, or /proc is mounted with hidepid.
    def hide(_pid: int) -> tuple[str, int]:
        raise error

    monkeypatch.setattr(process, "_state", hide)
    assert not is_dead(Identity("this host", os.getpid(), 1))


def test_a_name_with_brackets_and_blanks_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([str(program), "100"]) as odd:
        known = identity_of(odd.pid)
        assert not is_dead(known)
        odd.kill()
    assert is_dead(known)


def test_without_proc_there_is_no_host_and_so_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert identity() == Identity(None, os.getpid(), 0)

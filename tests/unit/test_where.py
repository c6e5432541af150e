"""Where something is: as Python shows it, whatever `faulthandler` says and when it says it."""

import threading
from pathlib import Path

import pytest

from cluster import where
from tests.eventually import eventually


def called(gate: threading.Event) -> None:
    """Wait."""
    gate.wait(20)


def recursive(depth: int, gate: threading.Event) -> None:
    """Call itself, and wait."""
    if depth:
        recursive(depth - 1, gate)
    else:
        called(gate)


@pytest.fixture
def answer() -> where.OfProcess:
    """Return what asks a process that the test itself is."""
    return where.OfProcess()


def test_a_thread_that_is_no_more_is_nowhere() -> None:
    """None for a thread that nobody has."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert where.of_thread(thread.ident or 0) is None


def test_a_deep_stack_is_cut_at_its_beginning() -> None:
    """What it does now is at the end, and that is kept."""
    gate = threading.Event()
    thread = threading.Thread(target=recursive, args=(500, gate))
    thread.start()

    def waiting() -> str:
        found = where.of_thread(thread.ident or 0) or ""
        assert "in wait\n" in found
        return found

    found = eventually(waiting)
    gate.set()
    assert "in called\n" in found
    assert len(found) <= 64 * 1024


def test_a_process_is_asked_until_it_answers(answer: where.OfProcess) -> None:
    """Nobody asks unless somebody wants to know; one that was not ready is asked again."""
    assert not answer.to_pass_on()
    assert answer() is None
    assert answer.to_pass_on()
    assert not answer.to_pass_on()
    eventually(answer.to_pass_on)
    answer.hear(b"Current thread 0x00007f (most recent call first):")
    answer.hear(b'  File "gone.py", line 3 in inner')
    answer.hear(b'  File "gone.py", line 9 in outer')
    answer.hear(b"  ...")
    assert not answer.to_pass_on()
    lines = ['  File "gone.py", line 9, in outer', '  File "gone.py", line 3, in inner']
    assert (eventually(answer) or "").splitlines() == lines
    assert not answer.to_pass_on()


def test_only_the_last_answer_counts(answer: where.OfProcess) -> None:
    """An older one that comes late is replaced, not mixed in; the engine's frames are left out."""
    assert answer() is None
    for function in ("late", "now"):
        answer.hear(b"Current thread 0x00007f [worker] (most recent call first):")
        answer.hear(b'  File "gone.py", line 3 in ' + function.encode())
        answer.hear(f'  File "{Path(where.__file__).parent}/job.py", line 1 in call'.encode())
    assert eventually(answer) == '  File "gone.py", line 3, in now\n'

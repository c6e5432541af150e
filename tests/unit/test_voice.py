"""A voice: bounded, in order, and the same again until it is written."""

import contextvars
import logging
import threading

import pytest

from cluster import log, voice
from cluster.voice import KEPT_BYTES, Chunk, Voice
from tests.unit.builders import a_claim


class Spoken:
    """A voice, and how often it was heard."""

    def __init__(self) -> None:
        self.heard = 0
        self.voice = Voice(a_claim(), self.hear)

    def hear(self, _voice: Voice) -> None:
        """Count."""
        self.heard += 1


def text(chunks: list[Chunk]) -> str:
    """Return what chunks say together."""
    return "".join(chunk.text for chunk in chunks)


@pytest.fixture
def spoken() -> Spoken:
    """Return a new voice."""
    return Spoken()


def test_lines_come_in_order_and_each_is_heard(spoken: Spoken) -> None:
    """What was said first is taken first."""
    for number in range(1000):
        spoken.voice.say(f"line {number}")
    assert text(spoken.voice.take()) == "".join(f"line {n}\n" for n in range(1000))
    assert spoken.heard == 1000


def test_chunks_come_again_as_they_were_until_they_are_written(spoken: Spoken) -> None:
    """A chunk that may have been written never changes its number or its text."""
    spoken.voice.say("one")
    (first,) = spoken.voice.take()
    spoken.voice.say("two")
    again, second = spoken.voice.take()
    assert again == first
    assert (second.number, second.text) == (first.number + 1, "two\n")
    assert spoken.voice.written(first.number)
    assert spoken.voice.take() == [second]
    assert not spoken.voice.written(second.number)
    assert spoken.voice.take() == []


@pytest.mark.parametrize("writes", [True, False])
def test_the_last_64_kib_are_kept_and_little_more(spoken: Spoken, writes: bool) -> None:
    """Of a mebibyte the end is left, whether it is written meanwhile or not."""
    kept: dict[int, Chunk] = {}

    def write() -> bool:
        chunks = spoken.voice.take()
        kept.update({chunk.number: chunk for chunk in chunks})
        return spoken.voice.written(chunks[-1].number)

    for number in range(20_000):
        spoken.voice.say(f"line {number} {'x' * 40}")
        assert spoken.voice.unwritten <= 2 * KEPT_BYTES + 8192
        if number % 100 == 0:
            _ = write() if writes else spoken.voice.take()
    while write():
        pass
    left = [kept[number] for number in sorted(kept) if number >= spoken.voice.first]
    assert KEPT_BYTES - 8192 < len(text(left)) <= KEPT_BYTES + 8192
    lines = text(left).splitlines()
    assert lines == [f"line {n} {'x' * 40}" for n in range(20_000 - len(lines), 20_000)]


def test_the_end_of_an_endless_line_is_kept(spoken: Spoken) -> None:
    """One line may be longer than all that is kept, whatever its characters."""
    spoken.voice.say("é" * 10**6 + "the end")
    said = text(spoken.voice.take())
    assert said.endswith("the end\n")
    assert KEPT_BYTES - 8192 < len(said.encode()) <= KEPT_BYTES


@pytest.mark.parametrize(
    ("said", "kept"),
    [("a\x00b", "a\ufffdb\n"), ("half \ud800", "half ?\n"), ("a\nb", "a\nb\n"), ("", "\n")],
)
def test_any_text_can_be_kept(spoken: Spoken, said: str, kept: str) -> None:
    """What PostgreSQL refuses is mended."""
    spoken.voice.say(said)
    assert text(spoken.voice.take()) == kept


def test_several_may_speak_at_once(spoken: Spoken) -> None:
    """No line is lost or torn between threads that share a voice."""

    def speak(who: int) -> None:
        for number in range(200):
            spoken.voice.say(f"{who} {number}")

    threads = [threading.Thread(target=speak, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = text(spoken.voice.take()).splitlines()
    assert sorted(lines) == sorted(f"{who} {n}" for who in range(4) for n in range(200))


def test_a_line_of_json_becomes_text_for_people() -> None:
    """A line of ours as JSON is read as one as text; what others print is theirs."""
    ours = '{"x": 1, "event": "hello", "level": "info", "timestamp": "now"}'
    assert log.plainly(ours) == "now [info     ] hello x=1"
    for theirs in ('{"event": 1}', "{", '{"a": 1}', "text"):
        assert log.plainly(theirs) == theirs


def test_what_is_said_belongs_to_the_context_and_ends_with_the_block(spoken: Spoken) -> None:
    """Neither another thread nor what follows is heard, but a copied context is."""
    ear = voice.Ear()
    logger = logging.getLogger("test_voice")
    logger.addHandler(ear)
    logger.propagate = False  # pytest's own handler raises what can't be formatted
    try:
        with spoken.voice:
            logger.warning("mine")
            logger.warning("%d misfits", "no number")
            other = threading.Thread(target=logger.warning, args=("another's",))
            other.start()
            other.join()
            context = contextvars.copy_context()
            copied = threading.Thread(target=context.run, args=(logger.warning, "mine, too"))
            copied.start()
            copied.join()
        logger.warning("too late")
    finally:
        logger.removeHandler(ear)
    lines = text(spoken.voice.take()).splitlines()
    assert [line.split("] ")[1] for line in lines] == ["mine", "mine, too"]

"""The shipped kinds of tasks, as far as they need no database."""

import json
from typing import Any

import pytest

import jobs.tasks
from cluster import Run
from cluster.job import catalogue
from cluster.perform import Result, perform
from tests.unit.builders import a_claim, no_connection


def a_run() -> Run:
    """Return a run of a task."""
    return Run(a_claim(job="count-words", schedule=None), no_connection)


def performed(kind: str, run: Run | None = None, **args: Any) -> Result:
    """Perform a shipped kind."""
    job = catalogue.get(kind)
    assert job
    assert job.function.__module__ == jobs.tasks.__name__
    return perform(job, run or a_run(), json.dumps(args))


def counted(text: str, **more: Any) -> dict[str, Any]:
    """Count the words of a text."""
    result = performed("count-words", text=text, **more)
    assert (result.outcome, result.error) == ("completed", None)
    found: dict[str, Any] = json.loads(result.value or "")
    return found


def test_words_are_counted_whatever_their_case() -> None:
    assert counted("The cat, the DOG; the end.") == {
        "words": 6,
        "distinct": 4,
        "most_common": [["the", 3], ["cat", 1], ["dog", 1], ["end", 1]],
    }


def test_words_of_any_language_are_words() -> None:
    assert counted("Straße STRASSE Ελλάδα ΕΛΛΆΔΑ")["most_common"] == [
        ["strasse", 2],
        ["ελλάδα", 2],
    ]


def test_the_most_common_words_are_as_many_as_asked_for() -> None:
    text = " ".join(f"w{n}" for n in range(50))
    assert [len(counted(text, top=top)["most_common"]) for top in (1, 50, 100)] == [1, 50, 50]
    assert len(counted(text)["most_common"]) == 10


@pytest.mark.parametrize("text", ["...", " ", "\n\n"])
def test_a_text_without_words_has_none(text: str) -> None:
    assert counted(text) == {"words": 0, "distinct": 0, "most_common": []}


def test_a_long_text_tells_its_progress_and_can_be_stopped() -> None:
    run = a_run()
    text = "a word\n" * 5000
    assert performed("count-words", run, text=text).outcome == "completed"
    assert run.fraction == 1
    run = a_run()
    run.stop("cancelled")
    assert performed("count-words", run, text=text).outcome == "cancelled"
    assert run.fraction == 100 / 5000


@pytest.mark.parametrize(
    ("kind", "args", "field"),
    [
        ("count-words", {}, "text"),
        ("count-words", {"text": ""}, "text"),
        ("count-words", {"text": "x" * 60_001}, "text"),
        ("count-words", {"text": "x", "top": 0}, "top"),
        ("count-words", {"text": "x", "top": 101}, "top"),
        ("processing", {}, "processing_time"),
        ("processing", {"processing_time": -1}, "processing_time"),
        ("processing", {"processing_time": 86_401}, "processing_time"),
        ("import-csv", {"text": "a", "delimiter": "x"}, "delimiter"),
        ("import-csv", {"text": "a", "delimiter": ",,"}, "delimiter"),
        ("report-ledger", {"user_id": 0}, "user_id"),
        ("report-ledger", {"user_id": 2**63}, "user_id"),
    ],
)
def test_arguments_out_of_bounds_fail_for_good_by_name(
    kind: str, args: dict[str, Any], field: str
) -> None:
    result = performed(kind, **args)
    assert (result.outcome, result.final) == ("failed", True)
    assert (result.error or "").startswith(f"args: {field}: ")


def test_a_processing_time_of_nothing_is_done_at_once() -> None:
    assert performed("processing", processing_time=0) == Result("completed")


def test_processing_stops_when_it_is_told_to() -> None:
    run = a_run()
    run.stop("interrupted")
    assert performed("processing", run, processing_time=1000).outcome == "interrupted"
    assert run.fraction == 0


def test_a_limit_of_two_holds_for_reports() -> None:
    job = catalogue.get("report-ledger")
    assert job
    assert job.max_running == 2

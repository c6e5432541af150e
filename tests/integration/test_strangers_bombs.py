"""Argument bombs: small bodies made to cost much are refused in a word, or taken whole.

What a test bounds is the size of the answer and the state of the database, not the seconds: the
machine may be busy.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.database import Pool
from tests.integration.builders import Answer, TaskWeb, fuzz, query
from webapp.bodies import LIMIT

JSON = {"Content-Type": "application/json"}
SHORT = 500
"""Characters of an answer that says one thing."""


def nested(opening: str, closing: str, levels: int) -> str:
    """Return arguments with so many levels."""
    return f'{{"more": {{"a": {opening * levels}1{closing * levels}}}}}'


def many(count: int, value: str) -> str:
    """Return an object with so many keys."""
    return "{" + ", ".join(f'"{place:x}": {value}' for place in range(count)) + "}"


DEEP = {
    "10,000 arrays": nested("[", "]", 10_000),
    "10,000 objects": nested('{"a":', "}", 9_000),
    "just below the interpreter's limit": nested("[", "]", 900),
    "one level too many": nested("[", "]", 40),
    "arrays that are never closed": '{"more": ' + "[" * 60_000,
}
NUMBERS = {
    "a whole number of 60,000 digits": '{"more": {"a": ' + "9" * 60_000 + "}}",
    "a whole number of 4,300 digits": '{"more": {"a": ' + "9" * 4_300 + "}}",
    "14 of them": '{"more": ' + many(14, "9" * 4_300) + "}",
    "one for an argument of 64 bits": '{"processing_time": ' + "9" * 4_300 + "}",
}
TAKEN = {
    "a text of 64 KiB": json.dumps({"note": "x" * 65_000}),
    "5,000 pairs of surrogates": '{"note": "' + r"\ud83d\ude00" * 5_000 + '"}',
    "a fraction of 60,000 digits": '{"more": {"a": 0.' + "9" * 60_000 + "}}",
    "4,000 keys": '{"more": ' + many(4_000, "1") + "}",
    "20,000 empty arrays": '{"more": {"a": [' + ",".join(["[]"] * 20_000) + "]}}",
    "keys that differ by case and accent": '{"more": {"k": 1, "K": 2, "é": 3, "e\\u0301": 4}}',
}


@pytest.fixture(scope="module")
def web(shared: Pool) -> TaskWeb:
    """Return the application over a database of this module."""
    return TaskWeb(shared)


@pytest.fixture
def unchanged(shared: Pool) -> Iterator[None]:
    """See in the end that nothing was stored."""
    before = query(shared, "SELECT count(*) FROM run")
    yield
    assert query(shared, "SELECT count(*) FROM run") == before


def ask(web: TaskWeb, arguments: str) -> Answer:
    """Ask for a task with these arguments."""
    body = f'{{"name": "n", "kind": "work", "args": {arguments}}}'
    assert len(body) <= LIMIT
    return web.ask("POST", "/tasks", body=body.encode(), headers=JSON)


def size(answer: Answer) -> int:
    """Return the characters of an answer."""
    return len(json.dumps(answer.body))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("what", DEEP)
def test_what_is_nested_too_deep_is_a_400_that_says_so(web: TaskWeb, what: str) -> None:
    answer = ask(web, DEEP[what])
    assert (answer.status, answer.problem) == (400, "invalid-json")
    assert "nested too deep" in answer.body["detail"]
    assert size(answer) < SHORT


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("what", NUMBERS)
def test_a_number_that_nobody_can_hold_is_refused_without_being_sent_back(
    web: TaskWeb, what: str
) -> None:
    answer = ask(web, NUMBERS[what])
    assert (answer.status, answer.problem) in {(400, "invalid-json"), (422, "invalid-field")}
    assert size(answer) < SHORT


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_large_and_sound_is_taken_and_comes_back_as_it_was(web: TaskWeb, what: str) -> None:
    answer = ask(web, TAKEN[what])
    assert answer.status == 201
    shown = web.shown(answer.body["task_id"])
    assert shown["args"] == json.loads(TAKEN[what])


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch", "/tasks/claim"])
def test_the_same_key_again_and_again_is_a_400(web: TaskWeb, path: str) -> None:
    body = ("{" + ",".join(['"name": "n"'] * 4_000) + "}").encode()
    answer = web.ask("POST", path, body=body, headers=JSON)
    assert (answer.status, answer.problem) == (400, "invalid-json")
    assert size(answer) < SHORT


@pytest.mark.usefixtures("unchanged")
def test_many_keys_that_nobody_knows_are_refused(web: TaskWeb) -> None:
    answer = ask(web, many(4_000, "1"))
    assert (answer.status, answer.problem) == (422, "invalid-field")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", '{"name": "n", "kind": "work", "args": ' + many(4_000, "1") + "}"),
        ("/tasks/batch", "[" + ",".join(["{}"] * 10_000) + "]"),
        ("/tasks/batch", "[" + ",".join([many(100, "1")] * 300) + "]"),
    ],
    ids=["keys", "tasks", "keys of tasks"],
)
def test_a_refusal_is_not_many_times_as_long_as_what_is_refused(
    web: TaskWeb, path: str, body: str
) -> None:
    answer = web.ask("POST", path, body=body.encode(), headers=JSON)
    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert size(answer) < 2 * LIMIT


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "builtins.eval", "jobs.tasks.words", "jobs.tasks:words", "__import__"),
        *("../jobs/tasks", "work.__globals__", "work\n", "WORK", "tick", "subprocess", "cluster"),
    ],
    ids=ascii,
)
def test_a_kind_is_a_name_that_was_declared_and_no_path_to_a_function(
    web: TaskWeb, name: str
) -> None:
    for path, body in (
        ("/tasks", {"name": "n", "kind": name}),
        ("/tasks/batch", [{"name": "n", "kind": name}]),
    ):
        answer = web.post(path, body)
        assert (answer.status, answer.problem) == (422, "invalid-field")
        assert "there is no kind" in answer.body["detail"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["os", "os.system", "this", "antigravity", "jobs.none"])
def test_asking_for_a_kind_or_a_job_imports_nothing(
    web: TaskWeb, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[Any] = []
    monkeypatch.setattr("importlib.import_module", lambda *which: imported.append(which))
    web.post("/tasks", {"name": "n", "kind": name})
    web.post("/tasks/claim", {"worker": "w", "kinds": [name]})
    for path in (f"/kinds/{name}", f"/jobs/{name}", f"/ui/kinds/{name}", f"/ui/jobs/{name}"):
        assert web.get(path).status == 404
    assert imported == []


# Beyond that PostgreSQL writes a fraction as a whole number, which reads as the same fraction.
fractions = st.floats(-(2**53), 2**53)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | fractions | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=40,
)


@fuzz
@given(arguments=st.dictionaries(st.sampled_from(["note", "more", "factor", "x"]), values))
def test_any_arguments_come_back_as_they_were_or_are_refused(
    web: TaskWeb, arguments: dict[str, Any]
) -> None:
    answer = ask(web, json.dumps(arguments))
    if answer.status == 201:
        shown = web.shown(answer.body["task_id"])
        assert shown["args"] == arguments
    else:
        assert (answer.status, answer.problem) in {(400, "invalid-json"), (422, "invalid-field")}

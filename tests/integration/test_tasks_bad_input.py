"""Bad input of tasks: each kind is refused as a problem that names it, and nothing is stored."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.database import Pool
from tests.integration.builders import KIND, Answer, TaskWeb, asked, query, taken

JSON = {"Content-Type": "application/json"}
TOKEN = "5d2ab7c6-5f0e-4f5e-9d8e-0f6f8f0c2a11"  # noqa: S105 - of no attempt
BEAT, COMPLETE, FAIL, RELEASE = (
    f"/tasks/{{task}}/{word}" for word in ("heartbeat", "complete", "fail", "release")
)
GOOD: dict[str, dict[str, Any]] = {
    "/tasks": {"name": "n", "kind": "work"},
    "/tasks/claim": {"worker": "w:1", "kinds": ["work"]},
    BEAT: {"token": TOKEN},
    COMPLETE: {"token": TOKEN},
    FAIL: {"token": TOKEN, "error": "no"},
    RELEASE: {"token": TOKEN},
}
"""A body that each path would take, were it not for the token."""
PATHS = [*GOOD, "/tasks/batch"]

HUGE = "9" * 400
TEXT = ["5", "true", "[]", "{}", '""', r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00x"']
COUNT = ["1.5", "1.0", "1e2", "true", '"5"', '"x"', "[]", "{}", HUGE, "-" + "9" * 4000]
FRACTION = ['"0.5"', "true", "[]", "{}", "-0.1", "1e300", HUGE]
MOMENT = [
    *("5", "true", "1893456000", "1e9", "[]", "{}", '""', '"x"', '"2030-01-01"'),
    *('"2030-01-01T00:00:00"', '"2030-13-01T00:00:00Z"', '"2030-01-01T25:00:00Z"'),
    *('"1969-12-31T23:59:59Z"', '"3000-01-01T00:00:00Z"', '"9999-12-31T23:59:59-14:00"'),
    *('"0001-01-01T00:00:00+14:00"', '"infinity"', '"now"', r'"2030-01-01T00:00:00Z\u0000"'),
]
WORD_TOKEN = [
    *("null", "5", "true", "[]", "{}", '""', '"x"', f'"{{{TOKEN}}}"', f'"urn:uuid:{TOKEN}"'),
    *(f'"{TOKEN.replace("-", "")}"', f'"{TOKEN} "', f'" {TOKEN}"', rf'"{TOKEN}\u0000"'),
]
WRONG: dict[str, dict[str, list[str]]] = {
    "/tasks": {
        "name": ["null", *TEXT, json.dumps("n" * 201)],
        "processing_time": COUNT,
        "kind": ["null", *TEXT, '"none"', '"Work"', '"os.system"', json.dumps("k" * 10_000)],
        "args": ["null", "5", "[]", '"x"', "true", r'"\ud800"'],
        "priority": [*COUNT, "101", "-101"],
        "max_retries": [*COUNT, "101", "-1"],
        "run_at": MOMENT,
        "deadline": MOMENT,
        "idempotency_key": [*TEXT, '"é"', r'"a\n"', r'"a\tb"', json.dumps("k" * 256)],
        "colour": ["null", "1"],
        "__class__": ["{}"],
        "status": ["3"],
    },
    "/tasks/claim": {
        "worker": ["null", *TEXT, '"a b"', '"a/b"', '"é"', r'"a\n"', json.dumps("w" * 101)],
        "kinds": [
            *("null", '"work"', "{}", "[]", "[5]", "[null]", '["none"]', '["work", "none"]'),
            *(r'["work", "\u0000"]', r'["\ud800"]', json.dumps(["work"] * 101)),
            json.dumps(["k" * 101]),
        ],
        "limit": ["null", *COUNT, "0", "-1", "101"],
        "wait_seconds": ["null", *FRACTION, "20.1"],
        "colour": ["1"],
    },
    BEAT: {
        "token": WORD_TOKEN,
        "progress": [*FRACTION, "1.1", "2"],
        "sequence": [*COUNT, "0", "-1", str(2**63)],
        "colour": ["1"],
    },
    COMPLETE: {"token": WORD_TOKEN, "result": [r'"\u0000"', r'{"a": ["\ud800"]}', HUGE]},
    FAIL: {
        "token": WORD_TOKEN,
        "error": ["null", *TEXT, json.dumps("e" * 8193)],
        "traceback": [*(each for each in TEXT if each != '""'), json.dumps("t" * 8193)],
        "retry_in": [*FRACTION, "31622401"],
        "final": ["null", '"true"', "1", "0", "[]"],
        "outcome": ["null", "5", '"completed"', '"cancelled"', '"fenced"', '"Failed"', '""'],
        "colour": ["1"],
    },
    RELEASE: {"token": WORD_TOKEN, "error": ['"x"']},
}
ARGUMENTS = [
    *('{"processing_time": "5"}', '{"processing_time": 1.5}', '{"processing_time": true}'),
    *('{"processing_time": null}', '{"note": 5}', '{"note": null}', '{"factor": "1"}'),
    *('{"more": []}', r'{"more": {"a": "\u0000"}}', r'{"more": {"\u0000": 1}}', '{"note": [[]]}'),
    *(r'{"more": {"a": "\ud800"}}', r'{"more": {"\ud800": 1}}', '{"nothing": 1}', '{"": 1}'),
    *(r'{"\u0000": 1}', r'{"\ud800": 1}', '{"run": 1}', '{"__class__": 1}', '{"note": "a\\ud800"}'),
    *(f'{{"more": {{"a": {HUGE}}}}}', f'{{"factor": {HUGE}}}', f'{{"processing_time": {HUGE}}}'),
]
NO_JSON = [
    *(b"", b" ", b"{bad", b"null", b'"x"', b"1", b"[" * 900 + b"]" * 900, b"\xff\xfe"),
    *(b'{"name": NaN}', b'{"name": Infinity}', b'{"name": -Infinity}', b'{"name": 1e400}'),
    *(
        b'{"name": "\xff"}',
        b'{"name": "\x00"}',
        b'{"token": "a", "token": "b"}',
        b'{"name": 1}\x00',
    ),
    *(b'{"name": "a", "name": "a"}', b'{"name": 1} and more', b'{"args": ' + b"9" * 5000 + b"}"),
    b'{"args": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}",
    b'{"result": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
]


@pytest.fixture(scope="module")
def web(shared: Pool) -> TaskWeb:
    """Return the application over a database that the tests of this module leave as it is."""
    return TaskWeb(shared)


@pytest.fixture(scope="module")
def task(web: TaskWeb, shared: Pool) -> UUID:
    """Return a task that runs; another one waits."""
    assert web.kinds
    (running,) = asked(shared)
    assert taken(shared)
    asked(shared, run_at="2030-01-01T00:00:00Z", idempotency_key="taken")
    return running


@pytest.fixture
def unchanged(task: UUID, shared: Pool) -> Iterator[UUID]:
    """Return that task, and see in the end that nothing was stored, changed or removed."""
    before = stored(shared)
    yield task
    assert stored(shared) == before


def stored(pool: Pool) -> list[tuple[Any, ...]]:
    """Return everything that a request could have changed."""
    return query(
        pool,
        "SELECT 'run', r::text FROM run r UNION ALL SELECT 'key', k::text FROM task_key k"
        " UNION ALL SELECT 'history', h::text FROM history h"
        " UNION ALL SELECT 'worker', w::text FROM worker w ORDER BY 1, 2",
    )


def send(web: TaskWeb, path: str, body: bytes | str, **headers: str) -> Answer:
    """Post a body as it is."""
    raw = body.encode() if isinstance(body, str) else body
    return web.ask("POST", path, body=raw, headers={**JSON, **headers})


def of(path: str, **fields: str) -> str:
    """Return the good body of a path, with fields as these texts."""
    good = {key: json.dumps(given) for key, given in GOOD[path].items()}
    pairs = [f"{json.dumps(key)}: {given}" for key, given in {**good, **fields}.items()]
    return "{" + ", ".join(pairs) + "}"


def refused(answer: Answer, *words: str) -> None:
    """Check that a problem says one of the words, or that this is no JSON."""
    assert (answer.status, answer.problem) in {(422, "invalid-field"), (400, "invalid-json")}
    if answer.problem == "invalid-field":
        assert any(word in answer.body["detail"] for word in words)
        assert all(set(each) == {"field", "reason"} for each in answer.body["errors"])


def ascii_id(given: object) -> str:
    """Return what a test is called by: short, and printable."""
    return ascii(given)[:40]


@pytest.mark.parametrize(
    ("path", "field", "text"),
    [(path, field, text) for path in WRONG for field in WRONG[path] for text in WRONG[path][field]],
    ids=ascii_id,
)
def test_a_wrong_field_is_refused_by_name(
    web: TaskWeb, unchanged: UUID, path: str, field: str, text: str
) -> None:
    answer = send(web, path.format(task=unchanged), of(path, **{field: text}))
    refused(answer, field, "64-bit")


@pytest.mark.parametrize("text", ARGUMENTS, ids=ascii_id)
def test_wrong_arguments_are_refused_by_name(web: TaskWeb, unchanged: UUID, text: str) -> None:
    refused(send(web, "/tasks", of("/tasks", args=text)), "args.", "processing_time", "args: ")
    batch = f"[{of('/tasks')}, {of('/tasks', args=text)}]"
    refused(send(web, "/tasks/batch", batch), "tasks.1.", "1.args.")
    assert unchanged


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/tasks", "name"),
        ("/tasks/claim", "worker"),
        ("/tasks/claim", "kinds"),
        (BEAT, "token"),
        (COMPLETE, "token"),
        (FAIL, "token"),
        (FAIL, "error"),
        (RELEASE, "token"),
    ],
)
def test_a_missing_field_is_refused_by_name(
    web: TaskWeb, unchanged: UUID, path: str, field: str
) -> None:
    body = {key: given for key, given in GOOD[path].items() if key != field}
    answer = send(web, path.format(task=unchanged), json.dumps(body))
    assert answer.status == 422
    refused(answer, field)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.split("/")[-1])
@pytest.mark.parametrize("body", NO_JSON, ids=ascii_id)
def test_a_body_that_is_no_json_is_a_400(
    web: TaskWeb, unchanged: UUID, path: str, body: bytes
) -> None:
    answer = send(web, path.format(task=unchanged), body)
    scalar = path == "/tasks/batch" and body in (b"null", b'"x"', b"1")
    expected = (422, "invalid-field") if scalar else (400, "invalid-json")
    assert (answer.status, answer.problem) == expected


@pytest.mark.parametrize("path", list(GOOD), ids=lambda path: path.split("/")[-1])
@pytest.mark.parametrize("body", ["[]", "[1]", "[{}]"])
def test_an_array_in_place_of_an_object_is_a_400(
    web: TaskWeb, unchanged: UUID, path: str, body: str
) -> None:
    answer = send(web, path.format(task=unchanged), body)
    assert (answer.status, answer.problem) == (400, "invalid-json")


@pytest.mark.parametrize(
    "body",
    [
        *("[]", "{}", "5", '"x"', "null", "true", "[5]", "[null]", "[[]]", '["x"]', "[{}]"),
        *('{"tasks": null}', '{"tasks": {}}', '{"tasks": []}', '{"tasks": 5}', '{"task": []}'),
        *('{"tasks": [{"name": "n", "kind": "work"}], "more": 1}', '{"name": "n", "kind": "work"}'),
    ],
)
def test_a_batch_that_is_no_array_of_tasks_is_refused(
    web: TaskWeb, unchanged: UUID, body: str
) -> None:
    answer = send(web, "/tasks/batch", body)
    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert answer.body["errors"][0]["field"].startswith("tasks")
    assert unchanged


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.split("/")[-1])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_another_media_type_is_a_415(
    web: TaskWeb, unchanged: UUID, path: str, headers: dict[str, str]
) -> None:
    answer = send(web, path.format(task=unchanged), json.dumps(GOOD.get(path, [])), **headers)
    assert (answer.status, answer.problem) == (415, "unsupported-media-type")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.split("/")[-1])
def test_a_body_that_is_too_long_is_a_413(web: TaskWeb, unchanged: UUID, path: str) -> None:
    size = 9 * 1024 * 1024 if path == "/tasks/batch" else 70 * 1024
    answer = send(web, path.format(task=unchanged), json.dumps(GOOD.get(path, [])) + " " * size)
    assert (answer.status, answer.problem) == (413, "content-too-large")


def test_times_that_contradict_each_other_are_refused(web: TaskWeb, unchanged: UUID) -> None:
    for deadline in ("2030-01-01T00:00:00Z", "2029-12-31T23:59:59Z", "2030-01-01T00:30:00+01:00"):
        times = {"run_at": '"2030-01-01T00:00:00Z"', "deadline": json.dumps(deadline)}
        answer = send(web, "/tasks", of("/tasks", **times))
        assert answer.status == 422
        refused(answer, "deadline: it has to be after run_at")
    assert unchanged


def test_an_argument_in_both_places_is_refused(web: TaskWeb, unchanged: UUID) -> None:
    body = of("/tasks", processing_time="1", args='{"processing_time": 1}')
    refused(send(web, "/tasks", body), "processing_time: it is in args as well")
    assert unchanged


def test_a_processing_time_for_a_kind_without_one_is_refused_by_name(pool: Pool) -> None:
    def takes_text(text: str) -> None:
        del text

    plain = TaskWeb(pool, TaskWeb(pool).kinds[1].model_copy(update={"function": takes_text}))
    answer = plain.task(processing_time=1, args={"text": "x"})
    assert answer.status == 422
    assert [each["field"] for each in answer.body["errors"]] == ["processing_time"]


def test_an_unknown_kind_is_told_which_there_are(web: TaskWeb, unchanged: UUID) -> None:
    answer = send(web, "/tasks", of("/tasks", kind='"wrok"'))
    refused(answer, "there is no kind 'wrok'; there are processing, work")
    assert unchanged


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x00b", "a\tb", "\xe9"], ids=ascii_id)
def test_a_key_that_makes_no_sense_is_a_400(web: TaskWeb, unchanged: UUID, key: str) -> None:
    answer = web.post("/tasks", GOOD["/tasks"], key=key)
    assert (answer.status, answer.problem) == (400, "invalid-idempotency-key")
    assert unchanged


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_a_body_is_utf_8_and_nothing_else(web: TaskWeb, shared: Pool, encoding: str) -> None:
    """In another encoding a NUL would come in unseen."""
    before = stored(shared)
    for name in ("n", "\\u0000"):
        body = f'{{"name": "{name}", "kind": "{KIND}"}}'.encode(encoding)
        answer = send(web, "/tasks", body)
        assert (answer.status, answer.problem) == (400, "invalid-json")
    assert stored(shared) == before


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
fuzz = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzz
@given(body=st.binary() | anything.map(lambda body: json.dumps(body).encode()))
def test_no_body_whatever_is_an_error_of_ours(web: TaskWeb, unchanged: UUID, body: bytes) -> None:
    for path in PATHS:
        assert send(web, path.format(task=unchanged), body).status in {400, 413, 422}


@fuzz
@given(data=st.data())
def test_no_field_whatever_is_an_error_of_ours(
    web: TaskWeb, unchanged: UUID, data: st.DataObject
) -> None:
    for path in (BEAT, COMPLETE, FAIL, RELEASE):
        fields = [*WRONG[path], "result"]
        found = data.draw(st.dictionaries(st.sampled_from(fields), anything, max_size=3))
        answer = send(web, path.format(task=unchanged), json.dumps({**GOOD[path], **found}))
        assert answer.status in {400, 409, 422}

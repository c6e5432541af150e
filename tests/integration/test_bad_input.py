"""Bad input: each kind gets its own refusal as a problem, and nothing is stored."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import database
from cluster.database import Pool
from cluster.store import jobs, runs
from tests.integration.builders import Answer, Web, a_job, claimed, ended, fuzz, query, value

JSON = {"Content-Type": "application/json"}
REFUSED = (400, 422)
"""The contract leaves open which of the two."""


@pytest.fixture
def own(pool: Pool) -> Web:
    """Return the application over this test's own database with one job."""
    jobs.declare(pool, [a_job()])
    return Web(pool)


def stored(pool: Pool) -> list[tuple[Any, ...]]:
    """Return everything that a request could have changed."""
    return query(
        pool,
        "SELECT 'user', u::text FROM users u UNION ALL SELECT 'ledger', l::text FROM ledger l"
        " UNION ALL SELECT 'key', i::text FROM idempotency i UNION ALL"
        " SELECT 'job', j::text FROM job j UNION ALL SELECT 'run', r::text FROM run r"
        " ORDER BY 1, 2",
    )


def post(web: Web, body: bytes | str, headers: dict[str, str] | None = None) -> Answer:
    """Send a body to the balance."""
    return web.ask("POST", "/users/1/balance", body=body, headers=headers or JSON)


def patch(web: Web, body: bytes | str) -> Answer:
    """Send a body to the job."""
    return web.ask("PATCH", "/jobs/tick", body=body, headers=JSON)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{bad",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b'{"amount": NaN}',
        b'{"amount": Infinity}',
        b'{"amount": -Infinity}',
        b'{"amount": 1e400}',
        b'{"amount": -1e400}',
        b'{"amount": ' + b"9" * 5000 + b"}",
        b'{"amount": 1, "amount": -1}',
        b'{"amount": 1} and more',
        b'{"amount": 1}{"amount": 1}',
        b"[" * 900 + b"]" * 900,
        b'{"amount": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"amount": "\x00"}',
        b'{"amount": 1}\x00',
        b'{"amount": "\xff"}',
        b"\xff\xfe",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_no_json_object_is_a_400(web: Web, shared: Pool, body: bytes) -> None:
    before = stored(shared)
    answers = [post(web, body), patch(web, body)]
    assert [(a.status, a.problem) for a in answers] == [(400, "invalid-json")] * 2
    assert stored(shared) == before


@pytest.mark.parametrize(
    "amount",
    [
        "9223372036854775808",
        "-9223372036854775809",
        "1.5",
        "1.0",
        "1e2",
        "true",
        "null",
        '"5"',
        '"abc"',
        '""',
        "0",
        "-0",
        "[1]",
        '{"$ref": 1}',
        "[" * 900 + "]" * 900,
        r'"\u0000"',
        r'"\ud800"',
    ],
    ids=lambda amount: amount[:30],
)
def test_a_wrong_amount_is_refused_by_name(web: Web, shared: Pool, amount: str) -> None:
    before = stored(shared)
    answer = post(web, f'{{"amount": {amount}}}')
    assert answer.status in REFUSED
    assert answer.problem in {"invalid-field", "invalid-json"}
    assert stored(shared) == before


@pytest.mark.parametrize(
    "field",
    ["amonut", "__class__", "__proto__", "$ref", "user", "", "a" * 8000, "é", "<b>", r"\u0000"],
    ids=lambda field: field[:20],
)
def test_an_unknown_field_is_refused_by_name(web: Web, shared: Pool, field: str) -> None:
    before = stored(shared)
    answers = [post(web, f'{{"amount": 1, "{field}": 1}}'), patch(web, f'{{"{field}": true}}')]
    assert all(a.status in REFUSED and a.problem == "invalid-field" for a in answers)
    name = json.loads(f'"{field}"')[:200]  # no more of it: two hundred say which one is meant
    assert all(name in a.body["detail"] for a in answers)
    assert stored(shared) == before


@pytest.mark.parametrize(
    "body",
    [rb'{"\ud800": 1}', b'{"\xed\xa0\x80": 1}', rb'{"amount": 1, "\udfff": 1}'],
    ids=("escaped", "raw", "beside an amount"),
)
def test_half_a_surrogate_pair_as_a_field_is_refused(web: Web, shared: Pool, body: bytes) -> None:
    before = stored(shared)
    answers = [post(web, body), patch(web, body)]
    assert all(a.status in REFUSED and a.problem.startswith("invalid") for a in answers)
    assert stored(shared) == before


def test_a_missing_field_is_refused_by_name(web: Web) -> None:
    answer = post(web, "{}")
    assert answer.status in REFUSED
    assert "amount" in answer.body["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_another_media_type_is_a_415(web: Web, shared: Pool, headers: dict[str, str]) -> None:
    before = stored(shared)
    answer = post(web, b'{"amount": 1}', headers)
    assert (answer.status, answer.problem) == (415, "unsupported-media-type")
    assert stored(shared) == before


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON"])
def test_the_media_type_may_be_written_in_other_ways(own: Web, media: str) -> None:
    assert post(own, b'{"amount": 1}', {"Content-Type": media}).status == 200


@pytest.mark.parametrize("size", [64 * 1024 + 1, 10_000_000])
def test_a_body_that_is_too_long_is_a_413(web: Web, shared: Pool, size: int) -> None:
    before = stored(shared)
    answer = post(web, b'{"amount": 1' + b" " * (size - 13) + b"}")
    assert (answer.status, answer.problem) == (413, "content-too-large")
    assert stored(shared) == before


def test_a_length_that_is_too_long_is_refused_before_a_byte_is_read(web: Web) -> None:
    assert post(web, b"", {**JSON, "Content-Length": "1000000000"}).status == 413


def test_a_body_of_exactly_the_limit_is_read(own: Web) -> None:
    assert post(own, b'{"amount": 1' + b" " * (64 * 1024 - 13) + b"}").status == 200


@pytest.mark.parametrize("key", ["", "k" * 256, "k" * 300, "a\x00b", "a\tb", "\xe9"])
def test_a_key_that_makes_no_sense_is_a_400(web: Web, shared: Pool, key: str) -> None:
    before = stored(shared)
    answer = web.change(-2, key=key)
    assert (answer.status, answer.problem) == (400, "invalid-idempotency-key")
    assert stored(shared) == before


def test_the_longest_key_is_taken(own: Web) -> None:
    assert [own.change(-2, key="k" * 255).body["balance"] for _ in range(2)] == [9998, 9998]


@pytest.mark.parametrize(
    "schedule",
    [
        "61 * * * *",
        "* * * * * * *",
        "0 0 31 2 *",
        "*/0 * * * *",
        "x" * 10_240,
        "٣ * * * *",
        "@reboot",
        "R * * * *",
        "",
        "\x00",
        "* * * * \x00",
        "\ud800 * * * *",
        "@every 0s",
        "@every 9999999w",
        5,
        True,
        [],
        {"cron": "* * * * *"},
    ],
    ids=lambda schedule: ascii(schedule)[:30],
)
def test_a_wrong_schedule_is_refused_and_changes_nothing(
    web: Web, shared: Pool, schedule: object
) -> None:
    before = stored(shared)
    answer = patch(web, json.dumps({"schedule": schedule}))
    assert answer.status in REFUSED
    assert answer.problem.startswith("invalid")
    assert "schedule" in answer.body["detail"] or answer.problem == "invalid-json"
    assert stored(shared) == before


def test_a_refused_schedule_is_quoted(web: Web) -> None:
    problem = patch(web, '{"schedule": "61 * * * *"}').body
    assert "'61 * * * *'" in problem["detail"]
    assert [wrong["field"] for wrong in problem["errors"]] == ["schedule"]


@pytest.mark.parametrize("paused", ["null", '"true"', "1", "0", "[]"])
def test_paused_is_true_or_false(web: Web, shared: Pool, paused: str) -> None:
    before = stored(shared)
    answer = patch(web, f'{{"paused": {paused}}}')
    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert stored(shared) == before


def test_a_change_is_whole_or_not_at_all(web: Web, shared: Pool) -> None:
    before = stored(shared)
    assert patch(web, '{"paused": true, "schedule": "61 * * * *"}').status == 422
    assert stored(shared) == before


def test_pausing_twice_is_one_pause(own: Web) -> None:
    answers = [patch(own, '{"paused": true}') for _ in range(2)]
    assert [(a.status, a.body["state"]) for a in answers] == [(200, "paused")] * 2


def test_an_error_of_a_job_is_told_as_text(pool: Pool) -> None:
    # The worker makes it storable; here it only has to come back as it was stored.
    ending = ended(pool, claimed(pool), "failed", error="<script>\ufffd 'quote' \"")
    runs.finish(pool, [ending])
    assert Web(pool).get("/jobs/tick/history").body[0]["error"] == "<script>\ufffd 'quote' \""


def test_bad_input_is_refused_while_the_database_is_away(url: str) -> None:
    with database.pool(f"{url} port=1", "ronin away", size=1, timeout=0.1) as away:
        web = Web(away)
        assert web.change("x").status == 422
        assert web.get("/jobs/tick/history", params={"limit": "x"}).status == 400
        assert web.get("/jobs").problem == "database-unavailable"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
bodies = (
    st.binary()
    | anything.map(lambda body: json.dumps(body).encode())
    | st.dictionaries(st.sampled_from(["amount", "x"]) | st.text(), anything).map(
        lambda body: json.dumps(body).encode()
    )
)


@fuzz
@given(body=bodies)
def test_no_body_whatever_is_an_error_of_ours(own: Web, body: bytes) -> None:
    for answer in (post(own, body), patch(own, body)):
        assert answer.status in {200, 400, 409, 413, 422}


def test_refusals_leave_the_balance_as_it_was(web: Web, shared: Pool) -> None:
    for body in (b"{bad", b'{"amount": "x"}', b'{"amount": 0}', b'{"amount": -20000}'):
        post(web, body)
    assert value(shared, "SELECT balance FROM users WHERE id = 1") == 10_000

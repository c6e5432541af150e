"""Bad paths and parameters: none leads anywhere, and each is refused as a problem."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.builders import Web, fuzz


@pytest.mark.parametrize(
    "path",
    [
        "/s/../../etc/passwd",
        "/%2e%2e%2fetc/passwd",
        "/jobs/..%2f..%2fetc%2fpasswd",
        "/users/%00",
        "/users/1%2f..",
        "/jobs/%00",
        "/jobs/%00/history",
        "/jobs/%00/preview",
        "/jobs/tick%00/history",
        "/jobs/%ff%fe",
        "/jobs/%ff%fe/history",
        "/jobs/%ed%a0%80/history",
        "/jobs/" + "a" * 4000,
        "/jobs/tick'--",
        "/jobs/ＴＩＣＫ",
        "/nowhere",
    ],
    ids=lambda path: path[:40],
)
def test_a_path_to_nothing_is_a_404(web: Web, path: str) -> None:
    answer = web.get(path)
    assert (answer.status, answer.problem.split("-")[-1]) in {(404, "found"), (404, "job")}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/jobs/%00"),
        ("POST", "/jobs/%00/runs"),
        ("PATCH", "/jobs/%ed%a0%80"),
        ("POST", "/jobs/%ed%a0%80/runs"),
    ],
)
def test_a_change_of_nothing_is_a_404(web: Web, method: str, path: str) -> None:
    answer = web.ask(method, path, json={"paused": True})
    assert (answer.status, answer.problem) == (404, "unknown-job")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE"])
def test_another_method_is_a_405_that_tells_what_is_allowed(web: Web, method: str) -> None:
    answer = web.ask(method, "/users/1")
    assert (answer.status, answer.problem) == (405, "method-not-allowed")
    assert {"GET", "HEAD", "OPTIONS"} <= set(answer.headers["allow"].split(", "))


def test_a_method_in_a_header_is_ignored(web: Web) -> None:
    assert web.get("/users/1", headers={"X-HTTP-Method-Override": "DELETE"}).status == 200


@pytest.mark.parametrize(
    "limit",
    [
        "0",
        "-1",
        "1001",
        "x",
        "",
        "1.5",
        "+5",
        "1_0",
        "٣",
        "99999999999999999999",
        "0000000010000000",
        "000000001" + "0" * 20,
        "000000001" + "0" * 5000,
        "10;drop table run",
    ],
    ids=lambda limit: limit[:20],
)
def test_a_wrong_limit_or_count_is_a_400(web: Web, limit: str) -> None:
    answers = [
        web.get("/jobs/tick/history", params={"limit": limit}),
        web.get("/jobs/tick/preview", params={"count": limit}),
    ]
    assert [(a.status, a.problem) for a in answers] == [(400, "invalid-parameter")] * 2


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "_",
        ";drop table run",
        "2027-01-01T00:00:00Z",
        "2027-01-01T00:00:00Z_x",
        "infinity_00000000-0000-0000-0000-000000000000",
        "0001-01-01T00:00:00+14:00_00000000-0000-0000-0000-000000000000",
        "9999-12-31T23:59:59-14:00_00000000-0000-0000-0000-000000000000",
        "2027-01-01T00:00:00Z_00000000-0000-0000-0000-000000000000_x",
        "2027-01-01T00:00:00Z_{00000000-0000-0000-0000-000000000000}",
        "2027-01-01T00:00:00Z_00000000000000000000000000000000",
        "\x00",
    ],
)
def test_a_cursor_that_we_did_not_give_is_a_400(web: Web, cursor: str) -> None:
    answer = web.get("/jobs/tick/history", params={"cursor": cursor})
    assert (answer.status, answer.problem) == (400, "invalid-parameter")


@fuzz
@given(
    name=st.text(min_size=1, max_size=20).filter(lambda name: not set(name) & set("/?")),
    part=st.sampled_from(("", "/history", "/preview")),
)
def test_no_path_whatever_is_an_error_of_ours(web: Web, name: str, part: str) -> None:
    assert web.get(f"/jobs/{name}{part}").status in {200, 404}


@fuzz
@given(limit=st.text(max_size=12), cursor=st.text(max_size=40) | st.none())
def test_no_parameter_whatever_is_an_error_of_ours(
    web: Web, limit: str, cursor: str | None
) -> None:
    params = {"limit": limit} if cursor is None else {"cursor": cursor}
    assert web.get("/jobs/tick/history", params=params).status in {200, 400}

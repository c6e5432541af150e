"""Cross site: a page of somebody else, open in the same browser, can neither change nor read."""

import re
from urllib.parse import urlencode

import pytest

from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import Answer, Web, a_job, query
from tests.integration.forms import COOKIE, FORM, KEY, MEDIA, filled

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def web(pool: Pool) -> Web:
    """Return the application over a database with a job `tick`."""
    jobs.declare(pool, [a_job(at_once=False)])
    return Web(pool)


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost:9000"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_form_works_from_our_own_pages_only(
    web: Web, pool: Pool, said: dict[str, str], allowed: bool
) -> None:
    """What the browser says about the page decides; a form without a word of it is refused."""
    answer = web.ask(
        "POST", "/ui/jobs/tick/pause", headers=MEDIA | {"Cookie": COOKIE} | said, body=filled()
    )

    assert answer.status == (303 if allowed else 403)
    assert web.get("/jobs/tick").body["paused"] is allowed
    assert len(query(pool, "SELECT FROM action")) == allowed


@pytest.mark.parametrize(
    ("cookie", "body"),
    [
        (COOKIE, ""),
        (COOKIE, "form_key="),
        (COOKIE, f"form_key={KEY[:-1]}B"),
        (COOKIE, f"form_key={KEY}&form_key={KEY}"),
        (COOKIE, "form_key=%C3%A4"),
        ("", f"form_key={KEY}"),
        ("ronin_form=", "form_key="),
        ("ronin_form=x", "form_key=x"),
    ],
)
def test_a_form_that_was_not_made_for_this_browser_changes_nothing(
    web: Web, pool: Pool, cookie: str, body: str
) -> None:
    """Even if the browser said that it came from us: the key has to be there, and be its own."""
    answer = web.ask("POST", "/ui/jobs/tick/pause", headers=FORM | {"Cookie": cookie}, body=body)

    assert answer.status in (400, 403)
    assert web.get("/jobs/tick").body["paused"] is False
    assert query(pool, "SELECT FROM action") == []


def test_each_browser_has_a_key_of_its_own(web: Web) -> None:
    """It comes with the first page, as a cookie that no script can read, and in every form."""
    first, other = (web.get("/ui/jobs/tick") for _ in range(2))
    name, _, rest = first.headers["set-cookie"].partition("=")
    key, *attributes = rest.split("; ")

    assert name == "ronin_form"
    assert {each.lower() for each in attributes} == {"httponly", "path=/", "samesite=strict"}
    assert keys(first) == {key} != keys(other)
    cookie = {"Cookie": f"ronin_form={key}"}
    again = web.get("/ui/jobs/tick", headers=cookie)
    assert keys(again) == {key}
    assert "set-cookie" not in again.headers
    fields = {"form_key": key}
    sent = web.ask("POST", "/ui/jobs/tick/pause", headers=FORM | cookie, body=urlencode(fields))
    assert sent.status == 303


def test_over_https_the_key_stays_there(web: Web) -> None:
    """A proxy says how the browser came."""
    said = web.get("/ui/jobs/tick", headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"]

    assert "; Secure" in said


def keys(answer: Answer) -> set[str]:
    """Return the keys in a page; checks that each form that changes something has one."""
    found = re.findall(
        r'method="post"[^>]*><input [^>]*name="form_key" value="([^"]+)"', answer.body
    )
    assert len(found) == answer.body.count('method="post"') > 0
    return set(found)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/jobs/tick/runs", ""),
        ("PATCH", "/jobs/tick", '{"paused": true}'),
        ("POST", "/kinds/nosuch/retry", ""),
        ("POST", "/users/1/balance", '{"amount": -1}'),
        ("POST", "/tasks", "{}"),
        ("DELETE", "/tasks/00000000-0000-0000-0000-000000000001", ""),
    ],
)
@pytest.mark.parametrize(
    "said", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}], ids=str
)
def test_another_site_can_not_change_by_the_api_either(
    web: Web, method: str, path: str, body: str, said: dict[str, str]
) -> None:
    """A request that needs no body is one that any page can make a browser send."""
    answer = web.ask(method, path, headers=JSON | said, body=body)

    assert (answer.status, answer.problem) == (403, "cross-site")


def test_programs_need_to_say_nothing(web: Web) -> None:
    """A client that is no browser sends neither header."""
    assert web.ask("PATCH", "/jobs/tick", json={"paused": True}).status == 200
    assert web.ask("POST", "/users/1/balance", json={"amount": -1}).status == 200


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("LOCALHOST:8000", True),
        ("ronin.localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("127.0.0.1", True),
        ("[::1]:8000", True),
        ("192.168.0.7:8000", True),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("notlocalhost", False),
        ("[::1", False),
        ("x@evil.example", False),
    ],
)
def test_a_name_that_somebody_may_own_is_not_ours(web: Web, host: str, ours: bool) -> None:
    """A page whose own name leads to this machine could otherwise read and change as ours do."""
    answer = web.get("/jobs", host=host)

    assert answer.status == (200 if ours else 421)

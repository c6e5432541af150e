"""Access: with tokens nobody comes in without one, and who may only read changes nothing."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from uuid import UUID

import falcon
import falcon.inspect
import falcon.testing
import pytest

from cluster.database import Pool
from cluster.settings import Token
from cluster.store import jobs
from tests.integration.builders import Answer, Web, a_job, a_kind, catalogue_of, query
from tests.integration.forms import FORM, MEDIA, filled, within
from webapp.app import routes
from webapp.sessions import LASTS, Sessions

ADA = Token("ada", "operate", "operate-secret-000")
EVE = Token("eve", "read", "read-secret-000000")
HTML = {"Accept": "text/html,*/*;q=0.8"}
OPEN = {
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
}
READING = ("GET", "OPTIONS")


class Guarded(Web):
    """The application over a pool, with tokens."""

    def __init__(self, pool: Pool, *tokens: Token) -> None:
        self.kinds = catalogue_of(a_kind())
        self._client = falcon.testing.TestClient(routes(pool, self.kinds, tokens=tokens))

    def cookie(self, token: Token) -> str:
        """Log in; return what the browser then sends."""
        found = self.login(token.secret).headers["set-cookie"]
        return found.partition(";")[0]

    def login(self, secret: str, following: str = "/", **headers: str) -> Answer:
        """Send the form of the login."""
        body = filled({"token": secret, "next": following})
        return self.ask("POST", "/login", headers=FORM | HTML | headers, body=body)


def bearer(token: Token) -> dict[str, str]:
    """Return the header of a program with a token."""
    return {"Authorization": f"Bearer {token.secret}"}


@pytest.fixture
def web(pool: Pool) -> Guarded:
    """Return the application with one who may operate and one who may read."""
    jobs.declare(pool, [a_job(at_once=False), a_kind()])
    return Guarded(pool, ADA, EVE)


def served(pool: Pool) -> Iterator[tuple[str, str]]:
    """Yield method and a path of each route, from the router itself."""
    router = routes(pool)._router  # noqa: SLF001 - the only place where all of them are
    for route in falcon.inspect.inspect_compiled_router(router):
        path = re.sub(r"\{(user|task|run):\w+\}", str(UUID(int=1)), route.path)
        path = re.sub(r"\{\w+\}", "nosuch", path)
        path = path.replace(f"/users/{UUID(int=1)}", "/users/1")
        for method in route.methods:
            if not method.internal:
                yield method.method, path


def test_no_route_is_open_that_is_not_meant_to_be(web: Guarded, pool: Pool) -> None:
    """Each route of the router, asked without a token and with a wrong one, is a 401."""
    every = set(served(pool))
    assert every > OPEN
    assert len(every) > 40
    for method, path in every - OPEN:
        for wrong in ({}, {"Authorization": "Bearer nobody"}, {"Authorization": "Bearer"}):
            answer = web.ask(method, path, headers=wrong | {"Sec-Fetch-Site": "same-origin"})
            assert (answer.status, answer.problem) == (401, "unauthorized"), (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert query(pool, "SELECT FROM action") == []


def test_who_may_read_may_ask_all_and_change_nothing(web: Guarded, pool: Pool) -> None:
    """Each changing route is a 403 for the role `read`, and no reading one is."""
    for method, path in set(served(pool)) - OPEN:
        headers = bearer(EVE) | {"Sec-Fetch-Site": "same-origin"}
        answer = web.ask(method, path, headers=headers)
        if method in READING:
            assert answer.status in (200, 404), (method, path)
        else:
            assert (answer.status, answer.problem) == (403, "read-only"), (method, path)
    assert query(pool, "SELECT FROM action") == []


def test_who_may_operate_is_refused_nowhere(web: Guarded, pool: Pool) -> None:
    """Each route takes the role `operate`, whatever it then thinks of the request."""
    for method, path in set(served(pool)) - OPEN:
        headers = bearer(ADA) | {"Sec-Fetch-Site": "same-origin"}
        assert web.ask(method, path, headers=headers).status not in (401, 403), (method, path)


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/login", "/static/ronin.css"])
def test_some_doors_are_open(web: Guarded, path: str) -> None:
    """Whether it lives, how it looks, and where to log in, anybody may ask."""
    assert web.get(path).status == 200


@pytest.mark.parametrize("path", ["/nowhere", "/static", "/ui/nowhere", "/health/x", "/login/x"])
def test_even_what_is_not_there_needs_a_token(web: Guarded, path: str) -> None:
    """Strangers don't learn which paths there are."""
    assert web.get(path).status == 401
    assert web.get(path, headers=bearer(EVE)).status == 404


@pytest.mark.parametrize(
    "header",
    [
        "Bearer operate-secret-00",
        "Bearer operate-secret-0000",
        "Bearer OPERATE-SECRET-000",
        "Bearer operate-secret-000 read-secret-000000",
        "Bearer ada",
        "Bearer ada:operate:operate-secret-000",
        "Bearer \xe4",
        "Basic b3BlcmF0ZS1zZWNyZXQtMDAw",
        "operate-secret-000",
        "",
    ],
)
def test_a_header_that_is_not_a_token_is_refused(web: Guarded, header: str) -> None:
    """Only the whole secret counts, in its own place."""
    assert web.get("/jobs", headers={"Authorization": header}).status == 401


def test_a_token_in_the_address_is_none(web: Guarded) -> None:
    """What stands in an address is kept by proxies and browsers."""
    for name in ("token", "access_token", "secret"):
        assert web.get(f"/jobs?{name}={ADA.secret}").status == 401


def test_actions_carry_the_name_of_the_token(web: Guarded, pool: Pool) -> None:
    """By the API and by a form, it is ada who did it."""
    web.ask("PATCH", "/jobs/tick", headers=bearer(ADA), json={"paused": True})
    headers = FORM | within(web.cookie(ADA))
    assert web.ask("POST", "/ui/jobs/tick/resume", headers=headers, body=filled()).status == 303
    refused = web.ask("PATCH", "/jobs/tick", headers=bearer(EVE), json={"paused": True})

    assert refused.status == 403
    assert query(pool, "SELECT who, what FROM action ORDER BY id") == [
        ("ada", "pause"),
        ("ada", "resume"),
    ]


def test_a_person_is_sent_to_the_login_and_back(web: Guarded) -> None:
    """Who opens a page logs in, and is where they wanted to be."""
    first = web.get("/ui/jobs/tick?a=1&b=2", headers=HTML)
    assert (first.status, first.headers["location"]) == (
        303,
        "/login?next=/ui/jobs/tick%3Fa%3D1%26b%3D2",
    )
    form = web.get(first.headers["location"], headers=HTML)
    assert 'value="/ui/jobs/tick?a=1&amp;b=2"' in form.body
    assert "Log out" not in form.body

    answer = web.login(ADA.secret, "/ui/jobs/tick?a=1&b=2")

    assert (answer.status, answer.headers["location"]) == (303, "/ui/jobs/tick?a=1&b=2")
    page = web.get("/", headers=HTML | {"Cookie": web.cookie(ADA)})
    assert page.status == 200
    assert "ada" in page.body
    assert "Log out" in page.body


def test_a_form_without_a_session_leads_to_the_login(web: Guarded, pool: Pool) -> None:
    """A session that is over does not lose the person, only what they pressed."""
    came = FORM | HTML | {"Referer": "http://localhost/ui/jobs/tick"}
    answer = web.ask("POST", "/ui/jobs/tick/pause", headers=came, body=filled())

    assert (answer.status, answer.headers["location"]) == (303, "/login?next=/ui/jobs/tick")
    assert query(pool, "SELECT FROM action") == []


def test_the_cookie_is_for_this_service_alone(web: Guarded) -> None:
    """No script reads it, no other site makes a browser send it, and it ends."""
    plain = web.login(ADA.secret).headers["set-cookie"]
    behind = web.login(ADA.secret, **{"X-Forwarded-Proto": "https"}).headers["set-cookie"]

    parts = {part.strip().lower() for part in plain.split(";")}
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= parts
    assert "secure" not in parts
    assert "; Secure" in behind
    assert ADA.secret not in plain


def test_who_may_read_sees_who_they_are_and_changes_nothing(web: Guarded) -> None:
    """A session has the role of its token."""
    headers = within(web.cookie(EVE))
    assert web.get("/jobs", headers=headers).status == 200
    answer = web.ask("POST", "/ui/jobs/tick/pause", headers=FORM | HTML | headers, body=filled())

    assert answer.status == 403
    assert "eve may read" in answer.body


def test_logout_takes_the_cookie_back(web: Guarded) -> None:
    """The browser forgets it, and the next page is the login."""
    answer = web.ask("POST", "/logout", headers=FORM | within(web.cookie(ADA)), body=filled())

    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert answer.headers["set-cookie"].startswith('ronin_session=""')
    expires = answer.headers["set-cookie"].partition("expires=")[2].partition(";")[0]
    assert parsedate_to_datetime(expires) <= datetime.now(UTC)
    assert web.get("/logout", headers=bearer(ADA)).status == 405


@pytest.mark.parametrize("said", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://x"}])
def test_another_site_can_neither_log_in_nor_out(web: Guarded, said: dict[str, str]) -> None:
    """Nor can it use the session, by a form or by the API."""
    cookie = within(web.cookie(ADA))
    body = filled({"token": ADA.secret})
    assert web.ask("POST", "/login", headers=MEDIA | cookie | said, body=body).status == 403
    assert web.ask("POST", "/logout", headers=MEDIA | cookie | said, body=body).status == 403
    json = {"Content-Type": "application/json"}
    change = web.ask("PATCH", "/jobs/tick", headers=json | cookie | said, body='{"paused": true}')
    assert (change.status, change.problem) == (403, "cross-site")


def test_a_page_of_ours_may_use_the_api_in_a_session(web: Guarded) -> None:
    """A script of ours needs no token: the browser says that it is ours."""
    headers = {"Cookie": web.cookie(ADA), "Sec-Fetch-Site": "same-origin"}
    assert web.ask("PATCH", "/jobs/tick", headers=headers, json={"paused": True}).status == 200


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_a_cookie_that_was_changed_is_none(web: Guarded, place: int) -> None:
    """Whichever character of it."""
    name, _, text = web.cookie(ADA).partition("=")
    place %= len(text)
    forged = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]

    assert web.get("/jobs", headers={"Cookie": f"{name}={text}"}).status == 200
    assert web.get("/jobs", headers={"Cookie": f"{name}={forged}"}).status == 401


def test_a_cookie_is_over_after_twelve_hours(web: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a browser goes on sending it."""
    cookie = web.cookie(ADA)
    assert web.get("/jobs", headers={"Cookie": cookie}).status == 200
    monkeypatch.setattr("webapp.sessions.LASTS", LASTS * 0)
    assert web.get("/jobs", headers={"Cookie": cookie}).status == 401


def test_sessions_end_with_their_token_and_with_no_other() -> None:
    """A changed secret ends its sessions at once, on every instance; the others go on."""
    before = Sessions([ADA, EVE])
    ada, eve = before.cookie(ADA), before.cookie(EVE)
    renewed = Token("ada", "operate", "another-secret-000")
    after = Sessions([EVE, renewed])

    assert after.of(ada) is None
    assert after.of(eve) == EVE
    assert Sessions([EVE]).of(ada) is None


def test_a_session_has_the_role_that_its_token_has_now() -> None:
    """Who may only read from now on may only read in an old session too."""
    cookie = Sessions([ADA]).cookie(ADA)
    lowered = Token("ada", "read", ADA.secret)

    assert Sessions([lowered]).of(cookie) == lowered
    assert Sessions([Token("bob", "operate", ADA.secret)]).of(cookie) is None


@pytest.mark.parametrize(
    "following",
    [
        "http://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        "/\r\nLocation: http://evil.example",
        "javascript:alert(1)",
        "evil.example",
        "",
        "/ä",
    ],
)
def test_a_login_leads_nowhere_else(web: Guarded, following: str) -> None:
    """Whatever address somebody gave along, it ends on our own pages."""
    assert web.login(ADA.secret, following).headers["location"] == "/"
    page = web.get("/login", params={"next": following}, headers=HTML)
    assert 'name="next" value="/"' in page.body


@pytest.mark.parametrize("secret", ["", "nobody", EVE.secret[:-1], "ada", "<script>", "ä"])
def test_a_wrong_token_shows_the_form_again(web: Guarded, secret: str) -> None:
    """With a word about it, without what was typed, and with where they wanted to go."""
    answer = web.login(secret, "/ui/tasks")

    assert answer.status == 401
    assert "There is no such token" in answer.body
    assert 'name="next" value="/ui/tasks"' in answer.body
    assert "set-cookie" not in answer.headers
    assert "<script>" not in answer.body.split("</head>")[1]


def test_tokens_are_never_in_the_log(
    web: Guarded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither right nor wrong ones, even when something breaks in the middle."""
    caplog.set_level("DEBUG")
    web.login("wrong-secret-00000")
    web.login(ADA.secret)
    web.get("/jobs", headers=bearer(EVE))
    monkeypatch.setattr(Sessions, "holder", lambda _self, secret: secret + 1)
    assert web.login(ADA.secret).status == 500

    assert "login refused" in caplog.text
    assert "unexpected error" in caplog.text
    for secret in ("wrong-secret-00000", ADA.secret, EVE.secret):
        assert secret not in caplog.text


def test_without_tokens_there_is_nothing_to_log_in_to(pool: Pool) -> None:
    """The login leads on, and a token that is sent all the same does no harm."""
    web = Guarded(pool)

    assert web.get("/login?next=/ui/tasks").headers["location"] == "/ui/tasks"
    assert web.login("anything", "/ui/tasks").headers["location"] == "/ui/tasks"
    assert web.get("/jobs", headers=bearer(ADA)).status == 200
    assert "Log out" not in web.get("/", headers=HTML).body


def test_with_tokens_any_name_is_ours(web: Guarded) -> None:
    """Behind a proxy the service has the name that people know; strangers have no token."""
    assert web.get("/jobs", headers=bearer(EVE), host="ronin.example").status == 200


def test_health_answers_under_any_name(pool: Pool) -> None:
    """Whoever watches over the service may call it as they like."""
    assert Guarded(pool).get("/health", host="ronin.example").status == 200

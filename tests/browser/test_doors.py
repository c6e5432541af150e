"""Doors: with tokens one has to log in; a strange page in the same browser can do nothing."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.own import DEVICES, JOBS, SETTINGS, Fit, Visit
from tests.browser.watching import Watch
from tests.eventually import eventually
from tests.system.facts import database
from tests.system.gunicorns import Instance, gunicorn, job_module, ready

OPERATOR, READER = "the-token-of-ann-01", "the-token-of-bob-02"
TOKENS = {"RONIN_TOKENS": f"ann:operate:{OPERATOR},bob:read:{READER}"}


@pytest.fixture(scope="module")
def service(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A service that wants a token."""
    folder = tmp_path_factory.mktemp("doors")
    env = {**SETTINGS, **TOKENS, **job_module(folder, JOBS)}
    with database(server_url) as url, gunicorn(url, folder, env=env) as instance:
        ready(instance)
        instance.http.headers["Authorization"] = f"Bearer {OPERATOR}"
        yield instance


def log_in(page: Page, token: str, wanted: str = "/") -> None:
    """Go somewhere, and show the token that is asked for."""
    page.goto(wanted)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_login_leads_to_where_one_wanted_and_logout_ends_it(visit: Visit, script: bool) -> None:
    """The token is typed once; after the logout it is asked for again."""
    page = visit(java_script_enabled=script)
    log_in(page, OPERATOR, "/ui/jobs/nightly")
    expect(page).to_have_url(re.compile("/ui/jobs/nightly$"))
    expect(page.get_by_role("banner").get_by_text("ann")).to_be_visible()

    page.get_by_role("button", name="Log out").click()

    expect(page).to_have_url(re.compile("/login"))
    page.goto("/ui/jobs/nightly")
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.get_by_role("heading", name="nightly")).to_have_count(0)
    assert [cookie["name"] for cookie in page.context.cookies()] == ["ronin_form"]


def test_session_is_out_of_reach_of_scripts_and_of_other_sites(page: Page) -> None:
    """The cookies are no script's, and are sent by our own pages alone."""
    log_in(page, OPERATOR)
    expect(page.get_by_role("heading", level=1)).to_have_text("Live")

    cookies = page.context.cookies()
    assert {cookie["name"] for cookie in cookies} == {"ronin_session", "ronin_form"}
    for cookie in cookies:
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
        assert OPERATOR not in cookie["value"]
    assert page.evaluate("document.cookie") == ""


def test_wrong_token_is_refused_with_the_form(page: Page, watch: Watch) -> None:
    """Who mistypes it is told so, and tries again on the spot."""
    watch.allow("401")
    log_in(page, "no-such-token-at-all", "/ui/jobs/nightly")
    expect(page.get_by_role("alert")).to_be_visible()

    page.get_by_label("Token").fill(OPERATOR)
    page.get_by_role("button", name="Log in").click()

    expect(page).to_have_url(re.compile("/ui/jobs/nightly$"))


def test_page_that_is_open_goes_to_the_login_when_the_session_ends(
    page: Page, watch: Watch
) -> None:
    """A logout in one tab leaves nothing going on in another."""
    watch.allow("401")
    log_in(page, OPERATOR)
    expect(page.get_by_role("status")).to_have_text("live")
    other = page.context.new_page()
    other.goto("/ui/jobs/first")

    other.get_by_role("button", name="Log out").click()

    expect(page.get_by_label("Token")).to_be_visible()


def test_reader_sees_everything_and_changes_nothing(
    page: Page, service: Instance, watch: Watch
) -> None:
    """Who may only read is told so in place of what was asked for."""
    watch.allow("403")
    log_in(page, READER, "/ui/jobs/nightly")
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly")

    answer = page.context.request.post(
        "/ui/jobs/nightly/pause", headers={"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    )

    assert answer.status == 403
    assert "bob may read" in answer.text()
    assert service.job("nightly")["state"] == "waiting"


@pytest.mark.parametrize("device", DEVICES)
def test_login_is_fit_for_everybody(device: str, visit: Visit, fit: Fit) -> None:
    """Nobody is shut out by the door itself."""
    page = visit(**DEVICES[device])
    page.goto("/login")
    expect(page.get_by_label("Token")).to_be_focused()

    fit(page, f"login-{device}")


class Stranger(BaseHTTPRequestHandler):
    """A site of somebody else, on this host too: with pages that want something of ours."""

    def do_GET(self) -> None:
        """Answer with what is hidden in the query."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>strange</title>")
        self.wfile.write(unquote(urlsplit(self.path).query).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    """The origin of somebody else's site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def lured(page: Page, watch: Watch, stranger: str) -> Callable[[str], Page]:
    """Return a function that shows a page of somebody else to whom is logged in to ours."""
    watch.allow(f"elsewhere: {stranger}/")

    def lure(html: str) -> Page:
        log_in(page, OPERATOR)
        expect(page.get_by_role("heading", level=1)).to_have_text("Live")
        page.goto(f"{stranger}/?{quote(html)}")
        return page

    return lure


def untouched(service: Instance) -> bool:
    job = service.job("nightly")
    return job["state"] == "waiting" and job["last_run"] is None


def test_form_of_a_strange_page_changes_nothing(
    lured: Callable[[str], Page], service: Instance, watch: Watch
) -> None:
    """Who is logged in and visits another site is not made to pause a job there."""
    watch.allow("403")
    target = f"{watch.origin}/ui/jobs/nightly/pause"
    page = lured(f"<form method='post' action='{target}'><button>Win a prize</button></form>")

    with page.expect_navigation() as gone:
        page.get_by_role("button", name="Win a prize").click()

    assert gone.value.status == 403
    assert untouched(service)


FETCH = "target => fetch(target, {method: 'POST', mode: 'no-cors', credentials: 'include'})"


@pytest.mark.parametrize("path", ["/ui/jobs/nightly/pause", "/jobs/nightly/runs"])
def test_script_of_a_strange_page_changes_nothing(
    path: str, lured: Callable[[str], Page], service: Instance, watch: Watch
) -> None:
    """Neither does what its script sends, to a form's address or to the API's."""
    watch.allow("403|ERR_BLOCKED_BY_ORB")
    page = lured("")

    with page.expect_response(f"{watch.origin}{path}") as refused:
        page.evaluate(FETCH, f"{watch.origin}{path}")

    assert refused.value.status == 403
    assert untouched(service)


def test_strange_page_can_not_frame_ours(lured: Callable[[str], Page], watch: Watch) -> None:
    """Nobody is made to press a button of ours that they do not see."""
    watch.allow("frame-ancestors|ERR_BLOCKED_BY_RESPONSE")
    page = lured(f"<iframe src='{watch.origin}/login'></iframe>")

    eventually(lambda: page.title() and any("frame-ancestors" in each for each in watch.troubles))
    expect(page.frame_locator("iframe").get_by_label("Token")).to_have_count(0)

"""Who may only read sees every page and no form on it; and what is not there is said in words."""

from urllib.parse import urlencode
from uuid import UUID

import falcon.testing
import pytest

from cluster.database import Pool
from cluster.settings import Token
from cluster.store import jobs
from tests.integration.builders import (
    KIND,
    Web,
    a_job,
    a_kind,
    asked,
    catalogue_of,
    claimed,
    finished,
)
from tests.integration.looking import forms, seen
from webapp.app import routes

OPERATOR = Token("ada", "operate", "operate-secret-000")
READER = Token("eve", "read", "read-secret-000000")


class Door(Web):
    """The application as somebody with a token sees it."""

    def __init__(self, pool: Pool, token: Token) -> None:
        declared = catalogue_of(a_kind())
        app = routes(pool, declared, tokens=(OPERATOR, READER))
        headers = {"Authorization": f"Bearer {token.secret}"}
        self._client = falcon.testing.TestClient(app, headers=headers)


def test_who_may_only_read_is_offered_nothing_to_change(pool: Pool) -> None:
    """Of a job that waits or runs, of tasks in each state, of a kind; the texts are all there."""
    jobs.declare(pool, [a_kind(), a_job(name="later", at_once=False)])
    failed = finished(pool, "failed", error="no such order")
    (task,) = asked(pool, name="a task")
    run = claimed(pool).id
    jobs.change(pool, "later", {"schedule": "5 4 * * *"})
    reader, operator = Door(pool, READER), Door(pool, OPERATOR)

    for path, text in (
        ("/ui/jobs/tick", "host:1"),
        ("/ui/jobs/later?" + urlencode({"schedule": "6 4 * * *"}), "6 4 * * *"),
        (f"/ui/runs/{run}", "host:1"),
        (f"/ui/runs/{task}", "a task"),
        (f"/ui/runs/{failed}", "no such order"),
        (f"/ui/kinds/{KIND}", "no such order"),
    ):
        assert text in seen(reader, path)
        assert forms(seen(reader, path)) == []
        assert forms(seen(operator, path)) != []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/ui/jobs/%3Cb%3E", "There is no job called"),
        ("/ui/kinds/%3Cb%3E", "There is no kind of tasks called"),
        ("/ui/users/12", "There is no user 12"),
        (f"/ui/runs/{UUID(int=7)}", "There is no run"),
        (f"/ui/tasks?q={UUID(int=7)}", "There is no task"),
        ("/ui/tasks?before=1", "follow the links"),
        ("/ui/actions?before=1", "follow the links"),
    ],
)
def test_what_is_not_there_is_said_on_a_page(web: Web, path: str, words: str) -> None:
    """Not as a problem for programs, and what was asked for is text in it."""
    answer = web.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status in (400, 404)
    assert answer.headers["content-type"].startswith("text/html")
    assert words in answer.body
    assert "<b>" not in answer.body

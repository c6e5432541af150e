"""A client posts as many tasks as it may, whichever workers it meets, and no more."""

from collections import Counter

import falcon.testing
import pytest

from cluster.database import Pool
from cluster.settings import Token
from cluster.store import jobs
from tests.integration.builders import a_kind, catalogue_of, execute, together, value
from tests.integration.forms import FORM, filled
from webapp.app import routes
from webapp.quota import Quota

ADA = Token("ada", "operate", "ada-0123456789abcdef")
BEN = Token("ben", "operate", "ben-0123456789abcdef")
TASK = {"name": "x", "kind": "work"}


@pytest.fixture
def worker(pool: Pool) -> falcon.testing.TestClient:
    """Return the application, where a client may post three tasks in a minute."""
    return a_worker(pool)


def a_worker(pool: Pool, *tokens: Token) -> falcon.testing.TestClient:
    app = routes(pool, catalogue_of(a_kind()), tokens=tokens, quota=Quota(pool, 3))
    return falcon.testing.TestClient(app, headers={"Host": "localhost"})


def post(
    worker: falcon.testing.TestClient, address: str = "10.0.0.1", **more: str
) -> falcon.testing.Result:
    return worker.simulate_post("/tasks", json=TASK, remote_addr=address, headers=more)


def test_who_has_posted_too_many_waits(pool: Pool, worker: falcon.testing.TestClient) -> None:
    assert [post(worker).status_code for _ in range(4)] == [201, 201, 201, 429]
    refused = post(worker)
    assert refused.json["type"] == "urn:ronin:problem:too-many-tasks"
    assert 1 <= int(refused.headers["Retry-After"]) <= 20, "a third of a minute"
    assert value(pool, "SELECT count(*) FROM run") == 3
    execute(pool, "UPDATE quota SET until = until - interval '20 s'")
    assert [post(worker).status_code for _ in range(2)] == [201, 429]


def test_clients_do_not_take_from_each_other(pool: Pool, worker: falcon.testing.TestClient) -> None:
    assert [post(worker, "10.0.0.1").status_code for _ in range(4)][-1] == 429
    assert post(worker, "10.0.0.2").status_code == 201
    guarded = a_worker(pool, ADA, BEN)
    ada, ben = ({"Authorization": f"Bearer {each.secret}"} for each in (ADA, BEN))
    assert [post(guarded, **ada).status_code for _ in range(4)][-1] == 429
    assert post(guarded, "10.0.0.3", **ada).status_code == 429, "wherever ada is"
    assert post(guarded, **ben).status_code == 201


def test_workers_count_together(pool: Pool) -> None:
    workers = [a_worker(pool) for _ in range(4)]
    found = Counter(together(16, lambda n: post(workers[n % 4]).status_code))
    assert found == {201: 3, 429: 13}


def test_a_batch_counts_as_what_is_in_it(pool: Pool, worker: falcon.testing.TestClient) -> None:
    assert worker.simulate_post("/tasks/batch", json=[TASK] * 2).status_code == 201
    assert worker.simulate_post("/tasks/batch", json=[TASK] * 2).status_code == 429
    too_long = worker.simulate_post("/tasks/batch", json=[TASK] * 4)
    assert too_long.status_code == 429
    assert "Retry-After" not in too_long.headers, "no time helps"
    assert value(pool, "SELECT count(*) FROM run") == 2


def test_a_form_is_no_way_around_it(pool: Pool, worker: falcon.testing.TestClient) -> None:
    jobs.declare(pool, [a_kind()])

    def send() -> int:
        form = filled({"name": "x"})
        path = f"/ui/kinds/{TASK['kind']}/tasks"
        answer = worker.simulate_post(path, body=form, headers=FORM, remote_addr="10.0.0.1")
        return int(answer.status_code)

    assert [send() for _ in range(4)] == [303, 303, 303, 429]
    assert post(worker).status_code == 429


def test_what_is_refused_for_itself_does_not_count(worker: falcon.testing.TestClient) -> None:
    wrong = [{**TASK, "kind": "none"}] * 3
    assert worker.simulate_post("/tasks/batch", json=wrong).status_code == 422
    assert post(worker, "127.0.0.1").status_code == 201


def test_nothing_is_counted_without_a_limit(pool: Pool) -> None:
    app = routes(pool, catalogue_of(a_kind()))
    free = falcon.testing.TestClient(app, headers={"Host": "localhost"})
    assert [post(free).status_code for _ in range(20)] == [201] * 20
    assert value(pool, "SELECT count(*) FROM quota") == 0

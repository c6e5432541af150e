"""Plans: what PostgreSQL does for each of the engine's statements, from the statements themselves.

The extension auto_explain sends the plan of whatever the store executes; so these are the plans
of the real statements with real parameters, and nothing is written twice.
"""

from collections.abc import Callable

import psycopg
from psycopg_pool import ConnectionPool

from cluster import database, process
from cluster.database import Pool
from cluster.ending import Ending, ending_of
from cluster.job import Job
from cluster.perform import Result
from cluster.store import leases, looks, runs, search, tasks

_LOAD = """
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_analyze = on;
    SET auto_explain.log_buffers = on;
    SET client_min_messages = log;
    """


def plans(url: str) -> None:
    """Print the plans of claim, finish, lookup and list; needs a superuser.

    Claims and finishes a task of the kind `noop` under a worker of its own.
    """
    told: list[str] = []

    def configure(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        connection.execute(_LOAD)
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))

    engine: Pool = ConnectionPool(
        database.conninfo(url, "ronin explain", **database.ONE_PLAN),
        min_size=1,
        max_size=1,
        kwargs={"autocommit": True},
        configure=configure,
        open=True,
    )
    usual = ConnectionPool(
        database.conninfo(url, "ronin explain"),
        min_size=1,
        max_size=1,
        kwargs={"autocommit": True},
        configure=configure,
        open=True,
    )
    with engine, usual:
        worker = leases.register(engine, "explain:1", process.identity(), ["noop"], 60)
        task = tasks.enqueue_many(usual, [{"kind": "noop", "name": "explained", "priority": 100}])
        told.clear()
        ask = looks.Ask(worker, None, ["noop"], 0, 1, 0.0)
        looked: list[looks.Look] = []
        steps: dict[str, Callable[[], object]] = {
            "claim": lambda: looked.append(looks.claim(engine, ask)),
            "finish": lambda: runs.finish(engine, [_ended(look) for look in looked]),
            "GET /tasks/{id}": lambda: tasks.get(usual, task[0].id),
            "GET /tasks": lambda: search.page(usual, 100, search.Wanted()),
            "GET /tasks?status=4": lambda: search.page(usual, 100, search.Wanted(4)),
        }
        for name, step in steps.items():
            step()
            print(f"\n-- {name}\n" + "\n".join(told))
            told.clear()
        leases.resign(engine, worker)


def _ended(look: looks.Look) -> Ending:
    (claim,) = look.claims
    return ending_of(claim, Job(name="noop", function=_nothing), Result("completed"), look.now)


def _nothing() -> None:
    pass

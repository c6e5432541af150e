"""A worker that slept wakes up in the middle of its work: who charges the customer twice?"""

from pathlib import Path

from tests.eventually import eventually
from tests.system.facts import rows, unsound
from tests.system.gunicorns import Instance, gunicorn, job_module, ready
from tests.system.test_takeover import suspended
from tests.system.test_tasks import post

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "exactly_once.py"


def test_the_guarded_charge_is_made_once_and_the_other_twice(url: str, tmp_path: Path) -> None:
    rows(url, "CREATE TABLE charge (kind text, customer integer)")
    settings = {
        **job_module(tmp_path, EXAMPLE.read_text()),
        "WEB_CONCURRENCY": "2",
        "RONIN_LEASE_SECONDS": "2",
    }
    with gunicorn(url, tmp_path, env=settings) as cluster:
        ready(cluster)
        for kind in ("charge-unguarded", "charge"):
            sleep_in_the_middle(url, cluster, post(cluster, kind, customer=7))
        assert unsound(url) == {}
    charges = "SELECT kind, count(*) FROM charge GROUP BY 1 ORDER BY 1"
    assert rows(url, charges) == [("charge", 1), ("charge-unguarded", 2)]


def sleep_in_the_middle(url: str, cluster: Instance, task: str) -> None:
    """Freeze the worker of a task until another has done it, then let it go on."""
    query = "SELECT worker FROM run WHERE id = %(task)s AND token IS NOT NULL"
    ((worker,),) = eventually(lambda: rows(url, query, task=task)) or [("",)]
    with suspended(cluster.workers()[worker]):
        eventually(lambda: attempts(url, task) == ["crashed", "completed"])
    eventually(lambda: attempts(url, task)[2:] == ["fenced"])


def attempts(url: str, task: str) -> list[str]:
    query = "SELECT outcome FROM history WHERE run_id = %(task)s ORDER BY finished_at"
    return [row[0] for row in rows(url, query, task=task)]

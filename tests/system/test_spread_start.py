"""Copies that start at the same time share the jobs out evenly, however they are started.

A worker that the machine lets stand still when its turn comes, comes too late: docs/spread.md says
how often. So one start of several may be uneven; a rule that does not hold makes nearly all so.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.system.facts import database, shares, unsound
from tests.system.gunicorns import gunicorn, job_module

SLOW = """
import os
import time
from pathlib import Path

before = len(list(Path(__file__).parent.glob("*.booted")))
Path(__file__).with_name(f"{os.getpid()}.booted").touch()
time.sleep(1.3 * (before % 3))
"""
"""One of three processes that load it does so 1.3 s later, and one 2.6 s."""


def starts(count: int, server_url: str, folder: Path, env: dict[str, str]) -> list[list[int]]:
    """Start an instance that many times, each on a database of its own; return its shares."""

    def once(url: str) -> list[int]:
        with gunicorn(url, folder, env=env) as instance:
            found = shares(url)
            assert unsound(url) == {}
            instance.kill()
        return found

    return repeated(count, server_url, once)


def repeated(count: int, server_url: str, once: Callable[[str], list[int]]) -> list[list[int]]:
    """Call a function with that many databases, one after the other."""
    found = []
    for _ in range(count):
        with database(server_url) as url:
            found.append(once(url))
    return found


def test_workers_of_one_instance_share_evenly(server_url: str, tmp_path: Path) -> None:
    found = starts(5, server_url, tmp_path, {})
    assert found.count([2, 2, 2, 2, 2]) >= 4, found


def test_workers_that_boot_more_than_a_second_apart_share_evenly(
    server_url: str, tmp_path: Path
) -> None:
    settings = {**job_module(tmp_path, SLOW), "RONIN_JOBS": "jobs,own_jobs"}
    found = starts(3, server_url, tmp_path, settings)
    assert found.count([2, 2, 2, 2, 2]) >= 2, found


def test_instances_started_at_once_share_evenly(server_url: str, tmp_path: Path) -> None:
    def once(url: str) -> list[int]:
        with ExitStack() as stack:
            started = [gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": "1"}) for _ in range(5)]
            instances = [stack.enter_context(each) for each in started]
            found = shares(url)
            for instance in instances:
                instance.kill()
        return found

    found = repeated(3, server_url, once)
    even = [each for each in found if len(each) == 5 and max(each) - min(each) <= 1]
    assert len(even) >= 2, found

"""Copies that start at the same time share the jobs out evenly, however they are started."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.facts import shares, unsound
from tests.system.gunicorns import gunicorn


@pytest.mark.parametrize("start", range(5))
def test_workers_of_one_instance_share_evenly(empty_url: str, tmp_path: Path, start: int) -> None:
    with gunicorn(empty_url, tmp_path) as instance:
        assert shares(empty_url) == [2, 2, 2, 2, 2], f"start {start}"
        assert unsound(empty_url) == {}
        instance.kill()


@pytest.mark.parametrize("start", range(3))
def test_instances_started_at_once_share_evenly(empty_url: str, tmp_path: Path, start: int) -> None:
    alone = {"WEB_CONCURRENCY": "1"}
    with ExitStack() as stack:
        started = [gunicorn(empty_url, tmp_path, env=alone) for _ in range(5)]
        instances = [stack.enter_context(each) for each in started]
        found = shares(empty_url)
        assert len(found) == 5, f"start {start}: {found}"
        assert max(found) - min(found) <= 1, f"start {start}: {found}"
        for instance in instances:
            instance.kill()

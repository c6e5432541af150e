"""Ten thousand withdrawals at one moment: each answered, half of them served, none too many."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.facts import completed, outcomes, rows, shares, unsound
from tests.system.gunicorns import ROOT, Instance, gunicorn, ready


@pytest.mark.parametrize("moment", ["requests", "connections"])
def test_of_10000_withdrawals_at_once_half_succeed_and_half_are_refused(
    url: str, tmp_path: Path, moment: str
) -> None:
    with gunicorn(url, tmp_path, env={"RONIN_SAMPLE_SECONDS": "5"}) as cluster:
        ready(cluster)
        shares(url)
        done = burst(cluster, *(["--connect-burst"] if moment == "connections" else []))
        assert answers(done.stdout) == {
            "200": 5000,
            "409 urn:ronin:problem:insufficient-funds": 5000,
            "connection errors": 0,
        }
        assert done.returncode == 0
        assert cluster.get("/users/1")["balance"] == 0
        assert rows(url, "SELECT count(*) FROM ledger WHERE amount = -2") == [(5000,)]
        eventually(lambda: completed(url) == 10, within=40)
        assert set(outcomes(url)) == {"completed"}
        assert unsound(url) == {}


def burst(cluster: Instance, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Withdraw 2 ten thousand times at once."""
    where = f"--url=http://127.0.0.1:{cluster.port}"
    what = ["--requests=10000", "--user=1", "--amount=-2"]
    command = [sys.executable, "benchmarks/burst.py", where, *what, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )


def answers(report: str) -> dict[str, int]:
    """Return how many answers of each kind the report counts."""
    counted = [line.split(maxsplit=1) for line in report.splitlines() if line.startswith("  ")]
    return {name: int(count.replace(",", "")) for count, name in counted}

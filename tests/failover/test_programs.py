"""What is not there is named, and how it comes."""

from pathlib import Path

import pytest

from tests.failover.programs import PACKAGES, Missing, found


def test_missing_programs_and_their_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match=f"patroni, patronictl, etcd.* missing; .*{PACKAGES}"):
        found()

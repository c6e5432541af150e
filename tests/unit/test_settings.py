"""Settings: defaults, and one clear line for each value that makes no sense."""

from pathlib import Path

import pytest

from cluster import settings
from cluster.settings import SettingsError

NAMES = (
    "DATABASE_URL",
    "RONIN_DATA",
    "BIND",
    "PORT",
    "WEB_CONCURRENCY",
    "RONIN_MAX_CONCURRENCY",
    "RONIN_SAMPLE_SECONDS",
    "RONIN_LEASE_SECONDS",
    "RONIN_JOBS",
    "RONIN_RETENTION_DAYS",
    "RONIN_INSTANCE",
    "RONIN_LOG",
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_without_a_variable_the_documented_defaults_hold() -> None:
    found = settings.load()
    assert (found.database_url, found.data, found.address) == (
        None,
        Path(".data"),
        "127.0.0.1:8000",
    )
    assert (found.workers, found.max_concurrency, found.jobs) == (5, 16, ("jobs",))
    assert (found.sample_seconds, found.lease_seconds, found.retention_days) == (120, 15, 30)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_is_an_unset_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = settings.load()
    monkeypatch.setenv(name, "")
    assert settings.load() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_CONCURRENCY", "five"),
        ("WEB_CONCURRENCY", "2.5"),
        ("RONIN_MAX_CONCURRENCY", "-1"),
        ("RONIN_MAX_CONCURRENCY", "1e9"),
        ("RONIN_SAMPLE_SECONDS", "-1"),
        ("RONIN_SAMPLE_SECONDS", "2m"),
        ("RONIN_SAMPLE_SECONDS", "nan"),
        ("RONIN_LEASE_SECONDS", "0"),
        ("RONIN_LEASE_SECONDS", "inf"),
        ("RONIN_LEASE_SECONDS", "nan"),
        ("RONIN_JOBS", "jobs,../etc"),
        ("RONIN_JOBS", "os.system()"),
        ("RONIN_JOBS", "."),
        ("RONIN_RETENTION_DAYS", "0"),
        ("RONIN_INSTANCE", "a:b"),
        ("RONIN_INSTANCE", "a b"),
        ("RONIN_INSTANCE", "one\ntwo"),
        ("RONIN_LOG", "loud"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}=") as refused:
        settings.load()
    assert len(str(refused.value).splitlines()) == 1


def test_every_wrong_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("RONIN_LOG", "loud")
    with pytest.raises(SettingsError, match=r"PORT=http.*; RONIN_LOG=loud"):
        settings.load()


def test_a_wrong_value_beside_it_does_not_tell_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ronin:hunter2@db/ronin")
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SettingsError) as refused:
        settings.load()
    assert "hunter2" not in str(refused.value)


def test_modules_of_jobs_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RONIN_JOBS", " jobs , shop.jobs,")
    assert settings.load().jobs == ("jobs", "shop.jobs")


def test_an_address_of_ipv6_stands_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIND", "::1")
    assert settings.load().address == "[::1]:8000"


def test_settings_do_not_change_after_the_start() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.load().port = 1  # type: ignore[misc] # just that

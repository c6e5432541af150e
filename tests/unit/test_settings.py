"""Settings: defaults, and one clear line for each value that makes no sense."""

from pathlib import Path

import pytest

from cluster import settings
from cluster.settings import SettingsError, Token

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
    "RONIN_POSTS_PER_MINUTE",
    "RONIN_INSTANCE",
    "RONIN_LOG",
    "RONIN_TOKENS",
    "RONIN_TOKEN",
    "RONIN_READ_TOKEN",
)
SECRET = "a-secret-of-eighteen"  # noqa: S105 - opens nothing


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
        ("RONIN_POSTS_PER_MINUTE", "-1"),
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


def test_tokens_are_names_roles_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret may hold a colon; blanks around a token are nothing."""
    monkeypatch.setenv("RONIN_TOKENS", f"ada:operate:{SECRET}:1, eve:read:{SECRET}2,")
    found = settings.load()

    assert found.doors == (
        Token("ada", "operate", f"{SECRET}:1"),
        Token("eve", "read", f"{SECRET}2"),
    )
    assert found.shown_token == f"{SECRET}:1"
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "wrong",
    [
        SECRET,
        f"ada:{SECRET}",
        f"ada:admin:{SECRET}",
        f":operate:{SECRET}",
        f"a b:operate:{SECRET}",
        f"{'a' * 31}:operate:{SECRET}",
        "ada:operate:tooshort",
        "ada:operate:",
        f"ada:operate:{SECRET} x",
        f"ada:operate:{SECRET}ä",
        f"ada:operate:{SECRET * 20}",
        f"ada:operate:{SECRET},ada:read:{SECRET}2",
        f"ada:operate:{SECRET},eve:read:{SECRET}",
        f"ada:operate:{SECRET}1,{SECRET}2",
    ],
)
def test_tokens_that_make_no_sense_are_one_line_without_a_secret(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs of a start are read by many."""
    monkeypatch.setenv("RONIN_TOKENS", wrong)
    with pytest.raises(SettingsError, match=r"^RONIN_TOKENS: ") as refused:
        settings.load()
    assert len(str(refused.value).splitlines()) == 1
    assert SECRET not in str(refused.value)
    assert "tooshort" not in str(refused.value)


def test_a_token_alone_closes_the_door_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sets one for the remote worker, and forgets the service, is not left open."""
    monkeypatch.setenv("RONIN_TOKEN", SECRET)
    assert settings.load().doors == (Token("operator", "operate", SECRET),)
    assert settings.load().shown_token == SECRET

    monkeypatch.setenv("RONIN_READ_TOKEN", f"{SECRET}2")
    both = (Token("operator", "operate", SECRET), Token("viewer", "read", f"{SECRET}2"))
    assert settings.load().doors == both
    assert SECRET not in repr(settings.load())

    monkeypatch.setenv("RONIN_TOKENS", f"eve:read:{SECRET}3")
    assert settings.load().doors == (Token("eve", "read", f"{SECRET}3"), *both)

    monkeypatch.setenv("RONIN_TOKENS", f"ada:operate:{SECRET}")
    assert settings.load().doors == (Token("ada", "operate", SECRET), both[1])

    monkeypatch.setenv("RONIN_TOKEN", "short")
    with pytest.raises(SettingsError, match=r"^RONIN_TOKEN: a secret has"):
        settings.load()


@pytest.mark.parametrize("operating", ["RONIN_TOKEN", "RONIN_TOKENS"])
def test_what_lets_read_does_not_let_operate(
    operating: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One secret for both roles would give the greater one to everybody; it is not said either."""
    monkeypatch.setenv(operating, SECRET if operating == "RONIN_TOKEN" else f"ada:operate:{SECRET}")
    monkeypatch.setenv("RONIN_READ_TOKEN", SECRET)
    with pytest.raises(SettingsError, match=r"^RONIN_READ_TOKEN: it is the secret of") as refused:
        settings.load()
    assert SECRET not in str(refused.value)


def test_who_may_only_read_is_no_remote_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Procfile's worker shows a token that may operate, or none."""
    monkeypatch.setenv("RONIN_TOKENS", f"eve:read:{SECRET},ada:operate:{SECRET}2")
    assert settings.load().shown_token == f"{SECRET}2"
    monkeypatch.setenv("RONIN_TOKENS", f"eve:read:{SECRET}")
    assert settings.load().shown_token is None

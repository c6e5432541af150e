"""Which browser the tests take, and what they say when there is none."""

from pathlib import Path

import pytest

from tests.browser import chromium


def program(place: Path, text: str = "exit 0") -> Path:
    """Write a program that stands for a browser."""
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)
    return place


def test_chromium_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CHROMIUM goes before everything on PATH."""
    program(tmp_path / "chromium")
    named = program(tmp_path / "mine")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROMIUM", str(named))

    assert chromium.find() == named


def test_a_chromium_that_does_not_start_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub that asks for another package manager is no browser."""
    program(tmp_path / "chromium", "exit 1")
    good = program(tmp_path / "google-chrome")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)

    assert chromium.find() == good


def test_a_named_chromium_that_is_missing_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names one gets that one or a refusal; nothing is installed."""
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))

    with pytest.raises(chromium.NoChromiumError, match="is no browser that starts"):
        chromium.install()


@pytest.mark.parametrize("ci", ["true", "1"])
def test_on_ci_a_missing_chromium_is_a_failure(ci: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would notice that the tests are skipped there."""
    monkeypatch.setenv("CHROMIUM", "/nowhere")
    monkeypatch.setenv("CI", ci)

    with pytest.raises(SystemExit, match="can't run: CHROMIUM=/nowhere is no browser"):
        chromium.main()


@pytest.mark.parametrize("ci", ["", "false"])
def test_at_home_it_is_said_that_the_tests_are_skipped(
    ci: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All other tests can be run without a browser."""
    monkeypatch.setenv("CHROMIUM", "/nowhere")
    monkeypatch.setenv("CI", ci)

    chromium.main()

    assert "will be skipped: CHROMIUM=/nowhere is no browser" in capsys.readouterr().err

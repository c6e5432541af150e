"""The browser of the tests: found where it is, else installed.

`python -m tests.browser.chromium` finds or installs one. `CHROMIUM=/path` names it; a CHROMIUM that
is no program is how to say that there shall be none, and that nothing is to be installed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APT = ("apt-get", "-qq", "-o", "Acquire::Retries=2")
PACKAGES = ("chromium", "fonts-dejavu-core")  # a bare Debian has no font, and draws no text
PATIENCE = 900
"""Seconds that one step of an installation may take."""


class NoChromiumError(Exception):
    """There is none; the message says what was looked for, and what to do."""


def find() -> Path:
    """Return a Chromium that starts.

    Raises:
        NoChromiumError: there is none.
    """
    named = os.environ.get("CHROMIUM")
    for place in [Path(named)] if named else _places():
        if _starts(place):
            return place
    if named:
        raise NoChromiumError(f"CHROMIUM={named} is no browser that starts")
    raise NoChromiumError(
        f"no browser that starts: neither {', '.join(PROGRAMS)} on PATH nor playwright's own; "
        "name one in CHROMIUM, or let `make browser` install it"
    )


def install() -> Path:
    """Return a Chromium that starts, installed if need be.

    As root from the packages of a Debian, else (or if these have none, as on Ubuntu) playwright's
    own build into the home directory, with the libraries that it needs where root can get them.

    Raises:
        NoChromiumError: there is none, and none can be had.
    """
    try:
        return find()
    except NoChromiumError:
        if os.environ.get("CHROMIUM"):
            raise
    for steps in _ways():
        sys.stdout.write(f"Installing Chromium for the browser tests: {' '.join(steps[-1])} …\n")
        sys.stdout.flush()
        if all(_done(step) for step in steps):
            break
    return find()


def wanted_by_all_means() -> bool:
    """Tell whether a missing browser is a failure: on CI, nobody would notice skipped tests."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _places() -> Iterator[Path]:
    for program in PROGRAMS:
        if found := shutil.which(program):
            yield Path(found)
    with sync_playwright() as playwright:
        yield Path(playwright.chromium.executable_path)


def _starts(place: Path) -> bool:
    """Tell whether it says its version: a stub, or one that lacks libraries, does not."""
    try:
        return (
            subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def _ways() -> Iterator[Sequence[Sequence[str]]]:
    """Yield the ways to install it, each as steps."""
    root = os.geteuid() == 0
    if root and shutil.which("apt-get"):
        packages = (*APT, "install", "-y", "--no-install-recommends", *PACKAGES)
        yield (*APT, "update"), packages
    own = (sys.executable, "-m", "playwright", "install", "chromium")
    if root:
        yield ((*own, "--with-deps"),)
    yield (own,)


def _done(step: Sequence[str]) -> bool:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(step, env=quiet, timeout=PATIENCE, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{error}\n")
        return False


def main() -> None:
    """Find or install one; where there is none, say so, and fail where it has to be."""
    try:
        install()
    except NoChromiumError as error:
        if wanted_by_all_means():
            raise SystemExit(f"The browser tests can't run: {error}") from None
        sys.stderr.write(f"The browser tests will be skipped: {error}\n")


if __name__ == "__main__":
    main()

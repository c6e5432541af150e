"""Words: figures and settings as people say them (pure)."""

from collections.abc import Mapping
from typing import Any

from webapp.pages.clock import duration


def settings(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings of a job or a kind of tasks: what each is called, and what it means."""
    told = row["settings"]
    found = [
        ("Function", row["function"]),
        ("Stopped after", duration(told["timeout_seconds"])),
        ("Given up after", _retries(told)),
        ("Performed", _where(told)),
        ("Priority", str(told["priority"])),
    ]
    if told.get("catch_up"):
        found.append(("Missed firings", _CATCH_UP[told["catch_up"]]))
        found.append(("First start", "at once" if told["at_once"] else "at the first firing"))
    if row.get("max_running"):
        found.append(("At once in the cluster", f"{row['max_running']} at most"))
    return found


_CATCH_UP = {
    "one": "one run stands for all of them",
    "all": "each gets its run, one after another",
    "none": "are not made up for",
}


def _retries(told: Mapping[str, Any]) -> str:
    most = told["max_retries"]
    if not most:
        return "the first failure"
    delay, longest = told["retry_delay_seconds"], told["retry_longest_seconds"]
    return (
        f"{most} {'failure' if most == 1 else 'failures'}; the second attempt comes after"
        f" {duration(delay)}, each later one after twice the time, {duration(longest)} at most,"
        f" give or take {told['retry_jitter']:.0%}"
    )


def _where(told: Mapping[str, Any]) -> str:
    if told.get("remote"):
        return "by workers that speak HTTP"
    if told["isolation"] == "thread":
        return "in a thread of a worker"
    memory = f", with {told['memory_mib']} MiB at most" if told.get("memory_mib") else ""
    return f"in a process of its own{memory}"

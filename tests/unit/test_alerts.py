"""Alerts and dashboard: they stand on metrics that /metrics has, and the paper names them all."""

import json
import re
from pathlib import Path

from prometheus_client import Metric

from cluster.store.metrics import Figures
from webapp.metrics import Shown

RULES = Path("deploy/prometheus/rules.yml")
RULES_TEST = Path("deploy/prometheus/rules_test.yml")
DASHBOARD = Path("deploy/grafana/ronin.json")
PAPER = Path("docs/metrics.md")

NOTHING = Figures(
    {
        "now": 0.0,
        "claims": 0,
        "postings": 0,
        "remote_leases": 0,
        "longest_delay": None,
        "parked": None,
    },
    [],
    [],
    [],
)
SUFFIXES = {"counter": ("_total",), "summary": ("_count", "_sum"), "gauge": ("",)}


def families() -> list[Metric]:
    """Return all families that there are; they are the same whatever there is to tell."""
    return list(Shown(NOTHING).collect())


def exported() -> set[str]:
    """Return the names of all samples that can come."""
    return {family.name + end for family in families() for end in SUFFIXES[family.type]}


def named(path: Path) -> set[str]:
    """Return the names of metrics in a file."""
    return set(re.findall(r"\bronin_\w+", path.read_text()))


def test_every_metric_of_the_alerts_is_exported() -> None:
    found = named(RULES)
    assert len(found) > 10
    assert found <= exported()


def test_every_metric_of_the_tests_of_the_alerts_is_exported() -> None:
    assert named(RULES_TEST) <= exported()


def test_every_metric_of_the_dashboard_is_exported() -> None:
    found = named(DASHBOARD)
    assert len(found) > 10
    assert found <= exported()


def test_every_alert_is_tested_and_explained() -> None:
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    assert len(alerts) == len(set(alerts)) > 5
    fired = set(re.findall(r"alertname: (\w+)\n\s+eval_time", RULES_TEST.read_text()))
    assert fired == set(alerts)
    assert set(re.findall(r"`(Ronin\w+)`", PAPER.read_text())) == set(alerts)


def test_every_metric_is_explained() -> None:
    told = set(re.findall(r"^\| `(ronin_\w+)`", PAPER.read_text(), re.MULTILINE))
    assert told == {
        family.name + ("_total" if family.type == "counter" else "") for family in families()
    }


def test_the_dashboard_has_panels_that_say_what_they_show() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len(panels) >= 10
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert 'job="$cluster"' in target["expr"]


def test_names_follow_the_conventions_of_prometheus() -> None:
    for family in families():
        assert re.fullmatch(r"ronin(_[a-z]+)+", family.name)
        assert family.documentation.endswith((".", "zero."))
        assert not family.name.endswith(("_total", "_milliseconds", "_count"))

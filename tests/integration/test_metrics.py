"""Metrics: what /metrics tells of a cluster, read by the parsers of Prometheus's own library."""

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import Web, a_job


def samples(web: Web) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels."""
    answer = web.get("/metrics")
    assert answer.status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body)
        for sample in family.samples
    }


def test_a_cluster_without_anything_has_metrics(pool: Pool) -> None:
    found = samples(Web(pool))
    print(found)
    assert found["ronin_workers", "working"] == 0

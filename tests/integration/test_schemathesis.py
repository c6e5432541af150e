"""A client that knows the document alone, and asks what it allows, and what it does not."""

import os
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.schemas import BaseSchema

import jobs as shipped
from cluster.database import Pool
from cluster.job import catalogue
from cluster.nudge import leaving
from cluster.run import Claim
from cluster.store import jobs
from tests.integration.builders import a_worker, asked, end, execute, taken
from tests.integration.documented import Json, bodies, document_of, operations, tight
from webapp.app import routes

EXAMPLES = int(os.environ.get("RONIN_EXAMPLES", "3"))
"""Of each operation; `RONIN_EXAMPLES=300 pytest … --timeout 0` looks for longer."""

CONFIG: dict[str, Any] = {
    "seed": 1,
    "continue-on-failure": True,
    "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
    "checks": {
        # A schema can't say all: that a kind is there, a cursor ours, a deadline after its start.
        "positive_data_acceptance": {"enabled": False}
    },
}


@pytest.fixture
def _nobody_waits() -> Iterator[None]:
    """Let no claim wait for work: a worker that leaves does not."""
    leaving.set()
    yield
    leaving.clear()


@pytest.fixture
def claims(pool: Pool) -> list[Claim]:
    """A service in which things have happened; the last failed, the others are under way."""
    assert shipped.__all__  # importing it declares its jobs
    jobs.declare(pool, list(catalogue))
    worker = a_worker(pool, names=[job.name for job in catalogue])
    execute(pool, "UPDATE run SET spread = '0'")
    ran, runs = taken(pool, "wait", "audit-ledger", worker=worker)
    end(pool, ran, "failed", catalogue.get(ran.job), error="no")
    asked(pool, 20, kind="count-words", args={"text": "to be or not to be"}, name="words")
    done, lost, *held = taken(pool, "count-words", worker=worker, free=19)
    end(pool, done, "completed", catalogue.get("count-words"), value='{"words": 6}')
    end(pool, lost, "failed", catalogue.get("count-words"), error="no", final=True)
    return [*held, runs, lost]


def knowing(api: Json, claims: list[Claim]) -> Json:
    """Return the document with ids and tokens that are there, other ones for each path."""
    api, (*held, lost) = deepcopy(tight(api)), claims
    of_path: dict[str, Claim] = defaultdict(held.pop)
    for path, _, operation in operations(api):
        wanted = [each for each in operation["parameters"] if each["name"] in ("task_id", "run_id")]
        for parameter in wanted:
            claim = lost if path.endswith("/retry") else of_path[path]
            parameter["schema"] = {"anyOf": [{"enum": [str(claim.id)]}, parameter["schema"]]}
            parameter["example"] = str(claim.id)
            for example in bodies(operation):
                if "token" in example:
                    example["token"] = str(claim.token)
    return api


def wrong_in(recorder: ScenarioRecorder) -> list[str]:
    """Return what the checks found, each with a request that shows it."""
    nodes = [node for nodes in recorder.checks.values() for node in nodes]
    return [
        f"{node.name}: {node.failure_info.failure}\n{node.failure_info.code_sample}"
        for node in nodes
        if node.failure_info
    ]


def successes_in(recorder: ScenarioRecorder) -> set[str]:
    """Return the operations that have succeeded."""
    found = set()
    for case, interaction in recorder.interactions.items():
        operation, sent = recorder.cases[case].value.operation, interaction.request
        done = interaction.response and interaction.response.status_code < HTTPStatus.BAD_REQUEST
        if done and sent.method == operation.method.upper():
            found.add(operation.label)
    return found


def asked_for(schema: BaseSchema) -> tuple[list[str], set[str]]:
    """Ask; return what was wrong, and the operations that have succeeded at least once."""
    wrong, successes = [], set()
    for event in from_schema(schema).execute():
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            wrong.append(f"{event.label}: {event.value!r}")
        if isinstance(event, events.ScenarioFinished):
            wrong += wrong_in(event.recorder)
            successes |= successes_in(event.recorder)
    return wrong, successes


@pytest.mark.usefixtures("_nobody_waits")
def test_whatever_is_asked_the_answer_is_documented(pool: Pool, claims: list[Claim]) -> None:
    """No 5xx, and no status, header, media type or field that is not in the document."""
    api = knowing(document_of(pool), claims)
    schema = schemathesis.openapi.from_dict(api, config=SchemathesisConfig.from_dict(CONFIG))
    schema.app = routes(pool, catalogue)

    wrong, successes = asked_for(schema)

    assert wrong == [], "\n\n".join(wrong)
    assert successes == {f"{method.upper()} {path}" for path, method, _ in operations(api)}

"""The document of the API as tests want it: without slack."""

from collections.abc import Iterator
from typing import Any

from cluster.database import Pool
from tests.integration.builders import Web

Json = dict[str, Any]


def tight(api: Json) -> Json:
    """Return the document with all objects closed: a field that is not documented is wrong."""
    schemas = {
        name: {"additionalProperties": False, **schema} if "properties" in schema else schema
        for name, schema in api["components"]["schemas"].items()
    }
    return {**api, "components": {**api["components"], "schemas": schemas}}


def document_of(pool: Pool) -> Json:
    """Return the document that the application serves."""
    answer = Web(pool).get("/openapi.json")
    assert answer.status == 200
    return dict(answer.body)


def operations(api: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield path, method and operation."""
    for path, item in api["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def bodies(operation: Json) -> list[Any]:
    """Return the bodies that an operation shows."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return [example["value"] for example in content.get("examples", {}).values()]

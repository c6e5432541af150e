"""The document of the API: valid, whole, and true; its examples work."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import falcon
import falcon.inspect
import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator

import webapp
from cluster.database import Pool
from tests.integration.documented import Json, document_of, operations, tight
from webapp import document, openapi
from webapp.app import routes
from webapp.known_problems import ALWAYS, KNOWN

PAGES = ("/", "/live", "/ui", "/login", "/logout", "/static", "/docs", "/openapi.json", "/metrics")
"""What is for people or for Prometheus, and the document itself."""

SENT_BY_THE_SERVER = {
    *("request-timeout", "uri-too-long", "request-header-fields-too-large"),
    *("not-found", "method-not-allowed"),
}
"""Problems that get their names from the standard's words."""


@pytest.fixture(scope="module")
def api(shared: Pool) -> Json:
    """Return the document."""
    return document_of(shared)


def resolved(api: Json, node: Json) -> Json:
    """Return what a node refers to, or itself."""
    while "$ref" in node:
        found: Any = api
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def fits(api: Json, schema: Json, value: Any) -> None:
    """Assert that a value is as a schema says, and has no field that it does not say."""
    whole = {**schema, "components": tight(api)["components"]}
    validator = OAS31Validator(whole, format_checker=oas31_format_checker)
    assert list(validator.iter_errors(value)) == []


def test_the_document_is_openapi_3_1(api: Json) -> None:
    """Any tool that reads OpenAPI 3.1 can read it."""
    assert api["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(api).iter_errors()) == []


def test_the_document_has_the_version_of_the_package() -> None:
    """One number for both."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert project["version"] == document.VERSION


def test_every_route_that_is_no_page_is_in_the_document(shared: Pool, api: Json) -> None:
    """Nothing is served that is not documented, and nothing documented is not served."""
    app = routes(shared)
    falcon.inspect.register_router(openapi.Router)(falcon.inspect.inspect_compiled_router)
    served = set()
    for route in falcon.inspect.inspect_routes(app):
        if route.path == "/" or route.path.startswith(PAGES[1:]):
            continue
        path = route.path
        for field, parameter in openapi.IN_PATH.items():
            for form in (f"{{{field}}}", f"{{{field}:user}}", f"{{{field}:task}}"):
                path = path.replace(form, f"{{{parameter.name}}}")
        served |= {(path, method.method.lower()) for method in route.methods if not method.internal}

    assert {(path, method) for path, method, _ in operations(api)} == served


def test_everything_has_words(api: Json) -> None:
    """Operations, parameters, answers and fields say what they mean."""
    for _, _, operation in operations(api):
        assert operation["summary"]
        assert operation["description"]
        assert all(each["description"] for each in operation["parameters"])
        assert all(resolved(api, each)["description"] for each in operation["responses"].values())
    for name, schema in api["components"]["schemas"].items():
        assert schema["description"], name
        for field, its in schema.get("properties", {}).items():
            assert its.get("description"), (name, field)


def test_operations_have_ids_of_their_own(api: Json) -> None:
    """A generated client has a function for each."""
    ids = [operation["operationId"] for _, _, operation in operations(api)]
    assert len(ids) == len(set(ids))


def test_every_answer_has_an_example_that_fits(api: Json) -> None:
    """What is shown is what comes."""
    for path, _, operation in operations(api):
        for status, response in operation["responses"].items():
            for content in resolved(api, response)["content"].values():
                shown = [
                    *([content["example"]] if "example" in content else []),
                    *(
                        resolved(api, each)["value"]
                        for each in content.get("examples", {}).values()
                    ),
                ]
                assert shown, (path, status)
                for example in shown:
                    fits(api, content["schema"], example)


def test_every_request_example_fits(api: Json) -> None:
    """What is proposed is what is taken."""
    for _, _, operation in operations(api):
        for parameter in operation["parameters"]:
            fits(api, parameter["schema"], parameter["example"])
        if body := operation.get("requestBody"):
            content = body["content"]["application/json"]
            assert content["examples"]
            for example in content["examples"].values():
                fits(api, content["schema"], example["value"])


def test_every_problem_in_the_code_is_known_by_its_status() -> None:
    """Whoever adds a problem documents it."""
    raised = set()
    for file in Path(webapp.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                status, name = node.args[:2]
                if isinstance(status, ast.Constant) and isinstance(name, ast.Constant):
                    raised.add((name.value, status.value))

    known = {(name, each.status) for name, each in KNOWN.items() if name not in SENT_BY_THE_SERVER}
    assert raised == known


def test_problems_of_every_request_have_the_standards_words() -> None:
    """The server and the framework name them by their status."""
    for name in SENT_BY_THE_SERVER:
        line = falcon.code_to_http_status(KNOWN[name].status)
        assert line.split(" ", 1)[1].lower().replace(" ", "-") == name
    assert set(ALWAYS) <= set(KNOWN)


def test_every_known_problem_belongs_to_an_operation(api: Json) -> None:
    """Nothing is documented that nobody answers; 405 belongs to none, but is told of."""
    told = str([operation["responses"] for _, _, operation in operations(api)])
    told += str(api["components"]["responses"])
    for name in set(KNOWN) - {"method-not-allowed"}:
        title = "".join(word.capitalize() for word in name.split("-")) + "Problem"
        assert f"'#/components/schemas/{title}'" in told, name
    assert "method-not-allowed" in api["info"]["description"]

"""The examples of the document, sent to a service that was just started."""

from collections.abc import Iterator

import jobs as shipped
from cluster.database import Pool
from cluster.job import catalogue
from tests.integration.builders import TaskWeb, taken
from tests.integration.documented import Json, bodies, document_of, operations


class Fresh(TaskWeb):
    """A service with the shipped jobs, of which none has run yet."""

    def __init__(self, pool: Pool) -> None:
        assert shipped.__all__  # importing it declares its jobs
        super().__init__(pool, *catalogue)
        self.pool = pool

    def fill(self, path: str, body: Json) -> str:
        """Put into a path, and a body, what its example can't know: ids and a token."""
        if "task_id" not in path and "run_id" not in path:
            return path
        task = self.task(kind="count-words", args={"text": "to be or not to be"}).body["task_id"]
        if "token" in body:
            (claim,) = self.post("/tasks/claim", {"worker": "w", "kinds": ["count-words"]}).body
            body["token"] = claim["token"]
            task = claim["task_id"]
        if path.endswith("/retry"):
            self.ask("DELETE", f"/tasks/{task}")
        if path.endswith("/stack"):
            (held,) = taken(self.pool, "count-words", free=1)
            task = str(held.id)
            self.post(f"/runs/{task}/stack")
        return path.replace("{task_id}", task).replace("{run_id}", task)


def requests(api: Json) -> Iterator[tuple[str, str, Json, Json | None]]:
    """Yield method, path, operation and body of every request that the document shows."""
    for path, method, operation in operations(api):
        for body in bodies(operation) or [None]:
            yield method, path, operation, body


def test_every_request_of_the_document_succeeds_on_a_fresh_service(pool: Pool) -> None:
    """Whoever pastes an example gets what the document shows beside it."""
    web = Fresh(pool)
    for method, path, operation, body in requests(document_of(pool)):
        sent = web.fill(path, body if isinstance(body, dict) else {})
        query = {}
        for parameter in operation["parameters"]:
            if parameter["in"] == "path":
                sent = sent.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
            elif parameter["in"] == "query":
                query[parameter["name"]] = parameter["example"]
        how = {} if body is None else {"json": body}
        answer = web.ask(method.upper(), sent, params=query, **how)

        assert str(answer.status) in operation["responses"]
        assert answer.status < 300, (method, sent, body, answer.body)

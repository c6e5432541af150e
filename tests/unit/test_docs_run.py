"""README.md names all that a run offers to a job's function."""

import re

from cluster.run import Run
from tests.system.gunicorns import ROOT
from tests.unit.builders import a_claim, no_connection

PAGE = (ROOT / "README.md").read_text()
FOR_THE_WORKER = {"fraction", "joined", "stop", "stopped", "told"}


def test_the_table_has_each_public_member_of_a_run() -> None:
    table = PAGE[PAGE.index("### What `run` offers") : PAGE.index("To stop is to raise")]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`(\w+)[`(]", cell)]
    public = {name for name in dir(Run(a_claim(), no_connection)) if not name.startswith("_")}
    assert sorted(named) == sorted(public - FOR_THE_WORKER)

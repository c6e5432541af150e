"""docs/deploys.md names the modules that a reload does not load anew."""

import re
import subprocess
import sys

from tests.system.gunicorns import ROOT

PAGE = (ROOT / "docs" / "deploys.md").read_text()
MASTER = """
import sys
from gunicorn.app.wsgiapp import WSGIApplication
sys.argv = ["gunicorn", "-c", "gunicorn.conf.py"]
application = WSGIApplication()
assert application.cfg.worker_class and application.cfg.logger_class
print(*sys.modules)
"""
"""What gunicorn's master loads before its first fork; the application is no part of it."""


def test_the_modules_that_a_reload_does_not_take_are_those_of_the_master() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", MASTER], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {name for name in loaded if re.match(r"(webapp|jobs)\.", name)} | {"cluster"}
    sentence = re.findall(r"The master has loaded (.*?), so workers", PAGE)[0]
    named = re.findall(r"`([\w.]+)`", sentence)
    assert sorted(named) == sorted(ours)
    assert "cluster" in loaded

"""Fuzz one target with atheris: `python -m tests.fuzz schedules --seconds 600`.

Ends with libFuzzer's status: 0 if nothing was found, 77 if something was, and the input that did
it is in the folder of findings. `tests/fuzz/README.md` says how to set it up.
"""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

_NAMES = ("schedules", "durations", "bodies", "arguments", "queries", "addresses", "requests")
_SLOWER = 8
"""Times, when branches are counted; `--again` counts none."""


def main() -> None:
    """Run it; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=_NAMES)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--folder", type=Path, default=Path(".data/fuzz"), help="for all it keeps")
    parser.add_argument("--again", type=Path, metavar="INPUT", help="play one input again")
    options = parser.parse_args()
    targets: Any
    if options.again:
        targets = importlib.import_module("tests.fuzz.targets")
        targets.TARGETS[options.target][0](options.again.read_bytes())
        return
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris is not installed: see tests/fuzz/README.md")
    atheris = importlib.import_module("atheris")
    # What is looked at for new branches: ours, and what reads for us in Python.
    with atheris.instrument_imports(include=["cluster", "webapp", "croniter", "gunicorn.http"]):
        targets = importlib.import_module("tests.fuzz.targets")
    targets.MOST_SECONDS *= _SLOWER
    target, seeds = targets.TARGETS[options.target]
    corpus = options.folder / options.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = options.folder / f"{options.target}.dict"
    words.write_text(targets.dictionary(options.target))
    settings = [
        f"-max_total_time={options.seconds}",
        f"-dict={words}",
        f"-artifact_prefix={options.folder}/{options.target}-",
        "-timeout=30",  # of the clock, on any machine; targets measure a second of the processor
        "-rss_limit_mb=2048",
        "-max_len=4096",
        "-len_control=0",  # what we read is longer than a word from the beginning
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *settings, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

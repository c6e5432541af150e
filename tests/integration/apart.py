"""Attempts that are performed in processes of their own, and whether these have ended."""

import json
import math
from pathlib import Path
from typing import Any

import psutil

from cluster.run import Claim, Run
from cluster.runner import Attempt
from tests.unit.builders import a_claim, a_job, no_connection


def suspect(job: str, **args: Any) -> Claim:
    """Return a claim that has killed two workers."""
    fields = {"worker": "test:1", "name": None, "max_retries": None, "crashes": 2}
    return a_claim(job=job, args=json.dumps(args), **fields)


def attempt_of(claim: Claim, run: Run | None = None) -> Attempt:
    """Return the attempt that a claim is, as the runner makes it."""
    return Attempt(claim, a_job(timeout=5), run or Run(claim, no_connection), math.inf)


def gone_pid(path: Path) -> bool:
    """Return whether the process has ended whose pid a file holds."""
    try:
        return gone(psutil.Process(int(path.read_text())))
    except psutil.NoSuchProcess:
        return True


def gone(process: psutil.Process) -> bool:
    """Return whether a process has ended, buried or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True

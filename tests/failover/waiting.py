"""What an acknowledgement is worth: no change is acknowledged before the standby has it."""

import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import LiteralString
from uuid import uuid4

import httpx
import psutil

from tests.chaos.case import Violation
from tests.chaos.loads import ACCOUNT, CLIENT_PATIENCE_SECONDS, Loads, Wish
from tests.eventually import eventually
from tests.failover.pair import Pair
from tests.system.facts import rows

_AMOUNT = 10**9
"""Far from what the other clients wish for, for the judge tells changes by their amounts."""
_WAITING: LiteralString = """
    SELECT pid FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND application_name = 'ronin http'
    """
_CANCEL: LiteralString = """
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND application_name = 'ronin http'
    """


def premature(pair: Pair, loads: Loads) -> Iterator[Violation]:
    """Ask for changes while the standby takes nothing; before the loads, so that nobody else does.

    The first is answered when the standby goes on. The wait of the second is ended by an
    operator, upon which PostgreSQL reports success, and a warning. Who then asks again under the
    same key is told the truth.
    """
    primary, standby = pair.in_step()
    with ThreadPoolExecutor() as threads, httpx.Client(timeout=CLIENT_PATIENCE_SECONDS) as http:
        for cancelled in (False, True):
            wish = Wish(uuid4().hex, amount=_AMOUNT + cancelled)
            loads.changes.append(wish)
            with _deaf(standby.walreceiver()):
                asking = threads.submit(_ask, loads, http, wish)
                eventually(lambda: rows(primary.url, _WAITING), within=5)
                if cancelled:
                    rows(primary.url, _CANCEL)
                    asking.result()
                told = wish.told(200)
            asking.result()
            if told:
                yield Violation("No change is acknowledged that the standby lacks.", str(wish))
            if not wish.told(200):
                _ask(loads, http, wish)
            if not wish.told(200):
                yield Violation("Who asks again is told when the standby has it.", str(wish))


def _ask(loads: Loads, http: httpx.Client, wish: Wish) -> None:
    path = f"/users/{ACCOUNT}/balance"
    wish.answers.append(loads.send(http, "POST", path, json={"amount": wish.amount}, key=wish.key))


@contextmanager
def _deaf(processes: Iterable[psutil.Process]) -> Iterator[None]:
    stopped = list(processes)
    assert stopped, "no process takes the primary's log"
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)

"""Examples: what each answer looks like, for the documentation; the tests check their shapes."""

from typing import Any

_TASK_ID = "01a1f0ee-3c1b-7d3a-9f5e-1b2c3d4e5f60"
_RUN_ID = "01a1f0ef-5a20-7c11-8a4b-6f5e4d3c2b1a"
_TOKEN = "94b6c1de-7a35-4f6c-9e0d-2b1a3c4d5e6f"  # noqa: S105 - names an attempt, opens nothing
_WORKER = "host:4711"

Json = dict[str, Any]

ACCOUNT: Json = {"userId": 1, "balance": 9998}

JOB: Json = {
    "name": "wait",
    "function": "jobs.waiting.wait",
    "description": "Wait, and do nothing.",
    "schedule": "*/20 * * * *",
    "timezone": "UTC",
    "state": "running",
    "worker": _WORKER,
    "run_id": _RUN_ID,
    "attempt": 1,
    "started_at": "2027-01-31T12:00:00.012000Z",
    "elapsed_seconds": 60.3,
    "progress": 0.5,
    "next_run_at": "2027-01-31T12:20:00Z",
    "waiting_for": None,
    "why": None,
    "last_run": {
        "outcome": "completed",
        "started_at": "2027-01-31T11:40:00.011000Z",
        "finished_at": "2027-01-31T11:42:00.113000Z",
        "duration_seconds": 120.102,
        "worker": _WORKER,
    },
}

_SETTINGS: Json = {
    "timeout_seconds": 3600.0,
    "max_retries": 3,
    "retry_delay_seconds": 1.0,
    "retry_longest_seconds": 3600.0,
    "retry_jitter": 0.1,
    "priority": 0,
    "spread_seconds": 0.1,
    "isolation": "thread",
    "memory_mib": None,
}

JOB_IN_FULL: Json = {
    **JOB,
    "declared_schedule": "*/20 * * * *",
    "paused": False,
    "settings": {**_SETTINGS, "at_once": True, "catch_up": "one"},
}

RUN_NOW: Json = {"run_id": _RUN_ID, "job": "wait"}

FIRING: Json = {
    "run_id": _RUN_ID,
    "attempt": 1,
    "worker": _WORKER,
    "due_at": "2027-01-31T11:40:00Z",
    "due_until": None,
    "started_at": "2027-01-31T11:40:00.011000Z",
    "finished_at": "2027-01-31T11:42:00.113000Z",
    "outcome": "completed",
    "error": None,
    "late_seconds": 0.011,
    "duration_seconds": 120.102,
}

RUN: Json = {
    "run_id": _RUN_ID,
    "job": "wait",
    "state": "running",
    "attempt": 1,
    "worker": _WORKER,
    "due_at": "2027-01-31T12:00:00Z",
    "not_before": "2027-01-31T12:00:00Z",
    "started_at": "2027-01-31T12:00:00.012000Z",
    "finished_at": None,
    "outcome": None,
    "error": None,
    "progress": 0.5,
    "cancelled": False,
    "why": None,
}
RUN_WAITING: Json = {
    **RUN,
    "state": "waiting",
    "attempt": 0,
    "worker": None,
    "started_at": None,
    "progress": None,
    "cancelled": True,
    "why": "cancelled; it is being ended",
}
RUN_TOLD: Json = {**RUN, "cancelled": True}

SAID: Json = {
    "attempt": 1,
    "at": "2027-01-31T12:00:00.512000Z",
    "text": "2027-01-31T12:00:00.012345Z [info     ] begun\n",
}
ASKED: Json = {
    "attempt": 1,
    "worker": _WORKER,
    "asked_at": "2027-01-31T12:00:30Z",
    "answered_at": None,
    "stack": None,
}
STACK: Json = {
    **ASKED,
    "answered_at": "2027-01-31T12:00:30.700000Z",
    "stack": '  File "jobs/waiting.py", line 13, in wait\n    run.wait(1)\n',
}

TASK_MADE: Json = {"task_id": _TASK_ID}

TASK: Json = {
    "task_id": _TASK_ID,
    "name": "words",
    "processing_time": None,
    "status": 3,
    "status_name": "COMPLETED",
    "kind": "count-words",
    "attempt": 1,
    "failures": 0,
    "worker": _WORKER,
    "priority": 0,
    "max_retries": None,
    "created_at": "2027-01-31T12:00:00.001000Z",
    "run_at": "2027-01-31T12:00:00.001000Z",
    "deadline": None,
    "started_at": "2027-01-31T12:00:00.009000Z",
    "finished_at": "2027-01-31T12:00:00.024000Z",
    "outcome": "completed",
    "error": None,
    "progress": 1.0,
}
TASK_IN_FULL: Json = {
    **TASK,
    "args": {"text": "to be or not to be", "top": 2},
    "result": {"words": 6, "distinct": 4, "most_common": [["to", 2], ["be", 2]]},
    "why": None,
}
_LIVE: Json = {
    **TASK_IN_FULL,
    "status": 1,
    "status_name": "NEW",
    "started_at": None,
    "finished_at": None,
    "outcome": None,
    "progress": None,
    "result": None,
}
TASK_RUNNING: Json = {
    **_LIVE,
    "status": 2,
    "status_name": "PROCESSING",
    "started_at": "2027-01-31T12:00:00.009000Z",
    "progress": 0.25,
}
TASK_CANCELLED: Json = {
    **_LIVE,
    "status": 4,
    "status_name": "ERROR",
    "attempt": 0,
    "worker": None,
    "finished_at": "2027-01-31T12:00:00.009000Z",
    "outcome": "cancelled",
    "error": "cancelled",
}
TASK_AGAIN: Json = {**_LIVE, "worker": None, "why": "a worker takes it at its next look"}

ATTEMPT: Json = {
    "attempt": 1,
    "worker": _WORKER,
    "started_at": "2027-01-31T12:00:00.009000Z",
    "finished_at": "2027-01-31T12:00:00.024000Z",
    "outcome": "completed",
    "error": None,
    "duration_seconds": 0.015,
}

KIND: Json = {
    "name": "count-words",
    "function": "jobs.tasks.count_words",
    "description": "Count the words of a text.",
    "settings": {**_SETTINGS, "remote": False},
    "max_running": None,
    "paused": False,
    "args": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "top": {"type": "integer"}},
        "required": ["text"],
        "additionalProperties": False,
    },
}

WORKER: Json = {
    "id": "5c2e0b7a-1d3f-4a6b-8c9d-0e1f2a3b4c5d",
    "name": _WORKER,
    "host": "host",
    "pid": 4711,
    "started_at": "2027-01-31T11:00:00Z",
    "load": 2,
    "lease_until": "2027-01-31T12:00:15Z",
    "leaving": False,
}

CLAIM: Json = {
    "task_id": _TASK_ID,
    "kind": "count-words",
    "name": "words",
    "args": {"text": "to be or not to be", "top": 2},
    "attempt": 1,
    "failures": 0,
    "crashes": 0,
    "max_retries": None,
    "token": _TOKEN,
    "fence": 12,
    "due_at": "2027-01-31T12:00:00.001000Z",
    "started_at": "2027-01-31T12:00:00.009000Z",
    "timeout_seconds": 3600.0,
    "lease_seconds": 15.0,
}

RETRIED = {"retried": 12, "more": False}

ACTION_ID = "01a1f0f0-6d2e-7b41-8c3d-2e4f6a8b0c1d"
ACTION = {
    "id": ACTION_ID,
    "at": "2027-01-31T12:00:00Z",
    "who": "ada",
    "what": "schedule",
    "target": "job:wait",
    "detail": {"from": "*/5 * * * *", "to": "@hourly"},
}

TOKEN = _TOKEN
"""Of an attempt, as a claim gives it."""

BEAT: Json = {"lease_until": "2027-01-31T12:00:15Z", "cancelled": False, "late": False}

NOT_READY: Json = {"status": "not ready", "missing": {"database": "connection refused"}}

"""What `/readyz` says: whether this process can serve, and what jobs would miss."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import Error

from jobs import statements
from jobs.models import Heartbeat
from tenants.connection import connection, fetch_one, retry_on_broken_connection

#: A process that left no sign of life for so long, or for three intervals, is not there.
LATE = timedelta(seconds=30)


def readiness() -> dict[str, Any]:
    """What this process needs, and what it would miss.

    Only the database makes it `unavailable`: requests don't touch the broker for a durable job, and jobs wait.
    `warnings` has a word for each thing that is wrong, which docs/how-to/deploy.md explains.
    """
    try:
        relay_seen_at, seen, *wrong = retry_on_broken_connection(_look)
    except Error:
        connection.close()
        return {"status": "unavailable", "database": "away"}
    warnings = [*_missing(seen), *_warnings(*wrong)]
    return {"status": "ready", "database": "ok", "relay_seen_at": relay_seen_at, "warnings": warnings}


def _look() -> Any:
    parameters = {
        "late": max(LATE, 3 * timedelta(seconds=settings.HEARTBEAT_SECONDS)),
        "overdue": timedelta(seconds=settings.JOBS_OVERDUE_SECONDS),
        "dead": settings.JOBS_DEAD_PER_HOUR,
    }
    return fetch_one(statements.HEALTH, parameters)


def _missing(seen: list[str]) -> Iterator[str]:
    for kind in Heartbeat.Kind:
        if kind not in seen:
            yield f"no_{kind.value}"


def _warnings(broker_refuses: bool, jobs_overdue: bool, dead_jobs_growing: bool) -> Iterator[str]:
    if broker_refuses:
        yield "broker_refuses"
    if jobs_overdue:
        yield "jobs_overdue"
    if dead_jobs_growing:
        yield "dead_jobs_growing"

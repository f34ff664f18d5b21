"""The line to the broker: rows whose time has come join it, and leave it in fair order when they are marked as sent."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from jobs.claim import may_take_over, poison_limits
from jobs.relay import statements
from tenants.connection import connection, execute

#: Rows that one statement changes at the most, and messages that one batch holds.
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Due:
    """A row that was marked as sent, and is to be published."""

    id: uuid.UUID
    task: str
    schema: str
    soft_limit: float | None
    hard_limit: float | None
    request_id: str


def wake() -> int:
    """Let the rows whose time has come join the line; how many rows were looked at."""
    return execute(statements.WAKE, {**poison_limits(), "batch": BATCH, "take_over": may_take_over()})


def mark(room: int) -> list[Due]:
    """Take up to `room` jobs out of the line, in fair order, and mark them as sent. It is committed when this returns.

    A crash before they are published costs a delay; to publish first could forget that a message is out. Rows of
    inactive tenants that are met on the way are parked, with what is behind them. This returns as soon as it has found
    a job that is to be sent: none waits for the parking of others.
    """
    while rows := _mark(room):
        due = [Due(*columns) for _, _, active, *columns in rows if active]
        if due:
            return due
        execute(statements.PARK, {"batch": BATCH})
    return []


def _mark(room: int) -> list[tuple[Any, ...]]:
    parameters: Mapping[str, Any] = {
        "room": room,
        "first": settings.JOB_FIRST_RESEND,
        "longest": settings.JOB_MAX_RESEND,
        "take_over": may_take_over(),
    }
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.MARK, parameters)
        return sorted(cursor.fetchall())

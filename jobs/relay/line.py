"""The line to the broker: rows whose time has come join it, and leave it in fair order when they are marked as sent."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings

from jobs.claim import may_take_over, poison_limits
from jobs.relay import statements
from tenants.connection import connection, execute

#: Rows that one statement changes at the most, and messages that one batch holds.
BATCH = 1000
#: Seconds that a transaction may take from its dispatch to its commit, and a relay still look for its jobs itself
LATE = 0.25
#: Seconds; longer than any row waits
ALL = 1e9


@dataclass(frozen=True, slots=True)
class Due:
    """A row that was marked as sent, and is to be published."""

    id: uuid.UUID
    task: str
    schema: str
    soft_limit: float | None
    hard_limit: float | None
    request_id: str


@dataclass(slots=True)
class View:
    """How far back a relay looks, again and again. Maintenance looks at all, once a second, for what came late."""

    #: Where it begins to look at the line: virtual time of a moment ago
    floor: int = 0
    #: When it looked at all rows that were due, by time.monotonic()
    woken_at: float = -ALL
    _next_floor: int = 0
    _raised_at: float = -ALL

    def raise_floor(self, virtual_time: int) -> None:
        """Virtual time has come to this."""
        now = time.monotonic()
        if now - self._raised_at >= LATE:
            self.floor, self._next_floor, self._raised_at = self._next_floor, virtual_time, now


def wake(view: View | None = None, *, batch: int = BATCH) -> int:
    """Let the rows whose time has come join the line; how many, and `batch` or more if some may be left.

    Those that are due first come first. Where they are many, each tenant gets its share of a second batch.
    """
    began = time.monotonic()
    within = timedelta(seconds=began - view.woken_at + LATE if view else ALL)
    look = {"within": within}
    parameters = {**poison_limits(), **look, "take_over": may_take_over()}
    woken = execute(statements.WAKE, {**parameters, "batch": batch})
    if woken == batch:
        with connection.shared_cursor() as cursor:
            cursor.execute(statements.FIND_TENANTS_THAT_WAIT, look)
            tenants = [tenant for (tenant,) in cursor.fetchall()]
        share = max(batch // (len(tenants) + 1), 1)
        woken += execute(statements.WAKE_EACH_TENANT, {**parameters, "tenants": tenants, "batch": share})
    elif view:
        view.woken_at = began
    return woken


def mark(room: int, view: View | None = None) -> list[Due]:
    """Take up to `room` jobs out of the line, in fair order, and mark them as sent. It is committed when this returns.

    A crash before they are published costs a delay; to publish first could forget that a message is out. Rows of
    inactive tenants that are met on the way are parked, with what is behind them. This returns as soon as it has found
    a job that is to be sent: none waits for the parking of others.
    """
    view = view or View()
    while rows := _mark(room, view):
        due = [Due(*columns) for _, _, active, *columns in rows if active]
        if due:
            return due
        execute(statements.PARK, {"batch": BATCH})
    return []


def retag() -> int:
    """Give a new place to rows that virtual time has passed, since no relay looks so far back; how many."""
    return execute(statements.RETAG, {"batch": BATCH})


def _mark(room: int, view: View) -> list[list[Any]]:
    parameters: Mapping[str, Any] = {
        "room": room,
        "floor": view.floor,
        "first": settings.JOB_FIRST_RESEND,
        "longest": settings.JOB_MAX_RESEND,
        "take_over": may_take_over(),
    }
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.MARK, parameters)
        rows = sorted(cursor.fetchall())
    if rows:
        view.raise_floor(rows[0][0])
    return [columns for _, *columns in rows]

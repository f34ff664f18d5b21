"""The line to the broker: rows whose time has come join it, and leave it in fair order when they are marked as sent."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
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
#: In place of a tenant's id
PUBLIC = uuid.UUID(int=0)
#: Seconds; longer than any row waits
ALL = 1e11


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
    """What a relay remembers of the line from one look to the next.

    It looks back no further than it has to. Maintenance looks at all, once a second, for what came late.
    """

    #: Where it begins to look at the line: virtual time of a moment ago
    floor: int = 0
    #: When it looked at all rows that were due, by time.monotonic()
    woken_at: float = -ALL
    #: The place of which it took a job last, and the tenants of which it took one there
    served_at: int = -1
    served: set[uuid.UUID] = field(default_factory=set)
    #: The tenant after which the next ones get their share of what is due
    woken: uuid.UUID = PUBLIC
    _next_floor: int = 0
    _raised_at: float = -ALL

    def raise_floor(self, virtual_time: int) -> None:
        """Virtual time has come to this."""
        now = time.monotonic()
        if now - self._raised_at >= LATE:
            self.floor, self._next_floor, self._raised_at = self._next_floor, virtual_time, now

    def serve(self, tenant: uuid.UUID, tag: int) -> None:
        """A job of the tenant was taken at this place."""
        if tag != self.served_at:
            self.served_at, self.served = tag, set()
        self.served.add(tenant)


def wake(view: View | None = None, *, batch: int = BATCH) -> int:
    """Let the rows whose time has come join the line; how many, and `batch` or more if some may be left.

    Those that are due first come first. Where they are many, each tenant gets its share of a second batch.
    """
    began = time.monotonic()
    within = timedelta(seconds=began - view.woken_at + LATE if view else ALL)
    parameters = {**poison_limits(), "within": within, "take_over": may_take_over()}
    woken = execute(statements.WAKE, {**parameters, "batch": batch})
    if woken == batch:
        tenants = _find_tenants_that_wait(within, view or View())
        share = max(batch // (len(tenants) + 1), 1)
        woken += execute(statements.WAKE_EACH_TENANT, {**parameters, "tenants": tenants, "batch": share})
    elif view:
        view.woken_at = began
    return woken


def _find_tenants_that_wait(within: timedelta, view: View) -> list[uuid.UUID]:
    """A batch of them. Where they are more, the others follow at the next look."""
    look = {"within": within, "after": view.woken, "tenants": BATCH}
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.FIND_TENANTS_THAT_WAIT, look)
        tenants = [tenant for (tenant,) in cursor.fetchall()]
    view.woken = tenants[-1] if len(tenants) == BATCH else PUBLIC
    return tenants


def mark(room: int, view: View | None = None) -> list[Due]:
    """Take up to `room` jobs out of the line, in fair order, and mark them as sent. It is committed when this returns.

    A crash before they are published costs a delay; to publish first could forget that a message is out. Rows that
    are not to be sent and stand in front are put where they belong, or passed over if their tenant is not active.
    """
    view = view or View()
    due: list[Due] = []
    passed_over: set[uuid.UUID] = set()
    while len(due) < room and (found := _mark(room - len(due), view, passed_over)):
        due += [row.due for row in found if row.sent]
        if not all(row.active for row in found):
            passed_over |= _inactive() | {row.tenant for row in found if not row.active}
        if misplaced := [row.due.id for row in found if row.active and row.misplaced]:
            execute(statements.RETAG, {"ids": misplaced, "batch": BATCH})
        elif due:
            break
    return due


def retag_late() -> int:
    """Give a new place to rows that virtual time has passed, since no relay looks so far back; how many."""
    return execute(statements.RETAG_LATE, {"batch": BATCH})


def _inactive() -> set[uuid.UUID]:
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.FIND_INACTIVE)
        return {tenant for (tenant,) in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class _Row:
    """One that a look found in line."""

    sent: bool
    misplaced: bool
    tag: int
    seq: int
    tenant: uuid.UUID
    active: bool
    due: Due


def _mark(room: int, view: View, passed_over: set[uuid.UUID]) -> list[_Row]:
    parameters: Mapping[str, Any] = {
        "room": room,
        "floor": view.floor,
        "passed_over": list(passed_over),
        "served_at": view.served_at,
        "served": list(view.served),
        "public": PUBLIC,
        "first": settings.JOB_FIRST_RESEND,
        "longest": settings.JOB_MAX_RESEND,
        "take_over": may_take_over(),
    }
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.MARK, parameters)
        answers = cursor.fetchall()
    rows = [
        _Row(sent, misplaced, tag, seq, tenant or PUBLIC, active, Due(*columns))
        for _, sent, misplaced, _, tag, seq, tenant, active, *columns in answers
    ]
    rows.sort(key=lambda row: (row.tag, row.seq))
    for row in rows:
        if row.sent:
            view.serve(row.tenant, row.tag)
    if answers:
        view.raise_floor(answers[0][0])
    return rows

"""The relay's maintenance: sweeps for the rows that nobody else will ever touch again.

A round calls each sweep in turn. A sweep has a budget of time, and takes the tenants in turns; what it can't handle, and
a sweep that raises, is reported once and does not stop the others. Several relays may sweep at once: each ending is
fenced, and what changes many rows skips those that are locked.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings

from jobs import endings
from jobs.claim import Lease, find, poison_limits
from jobs.relay import deletion, statements
from jobs.relay.line import BATCH
from jobs.relay.troubles import Troubles
from tenants.connection import connection, execute

T = TypeVar("T", bound=Hashable)

#: Seconds that a sweep gets in each round.
BUDGET = 0.5
#: Seconds between two rounds, while all is done and while there is more to do.
PAUSE = 1.0
SHORT_PAUSE = 0.1
#: Rows that a sweep looks at, to find its tenants.
LOOK = 10_000


class Poisoned(Exception):
    """The job's worker was killed, or vanished, too often while it ran."""


class Round:
    """One sweep's turn, with `seconds` to use."""

    def __init__(self, troubles: Troubles, *, seconds: float) -> None:
        self.troubles = troubles
        self._end = time.monotonic() + seconds
        #: Whether there was more to do than time
        self.is_cut = False

    def has_time(self) -> bool:
        """Whether the sweep may go on. Ask only where there is more to do."""
        self.is_cut = self.is_cut or time.monotonic() >= self._end
        return not self.is_cut


Sweep = Callable[[Round], None]


class Maintenance:
    """Calls the sweeps, and remembers what it has reported."""

    def __init__(self, *, budget: float = BUDGET) -> None:
        self._budget = budget
        self._troubles = Troubles()

    def run(self) -> float:
        """One round of all sweeps; for how many seconds the next one may wait."""
        rounds = [self._sweep(sweep) for sweep in SWEEPS]
        return SHORT_PAUSE if any(round.is_cut for round in rounds) else PAUSE

    def look(self) -> float:
        """A round on a connection that waits for nobody."""
        if connection.connection is None:
            seconds = settings.RELAY_STALL_SECONDS / 2
            execute(statements.BE_IMPATIENT, {"statement_timeout": f"{int(1000 * seconds)}ms"})
        return self.run()

    def _sweep(self, sweep: Sweep) -> Round:
        round = Round(self._troubles, seconds=self._budget)
        with self._troubles.isolated(sweep, f"Maintenance could not {sweep.__name__}"):
            sweep(round)
        return round


def run_maintenance() -> None:
    """All that there is to do, in one go, on the caller's connection."""
    Maintenance(budget=float("inf")).run()


def sweep_poison(round: Round) -> None:
    """Dead-letter the jobs whose workers died too often."""
    error = Poisoned("Its worker was killed or vanished too often while it ran.")
    _end_each(round, statements.FIND_POISON, lambda lease: endings.dead_letter_poison(lease, error), **poison_limits())


def sweep_expired(round: Round) -> None:
    """End the jobs that expired before a worker took them."""
    _end_each(round, statements.FIND_EXPIRED, endings.expire)


def park(round: Round) -> None:
    """Let the rows in line of tenants that are not active wait apart, where nobody has to look past them."""
    while execute(statements.PARK, {"batch": BATCH}) == BATCH and round.has_time():
        pass


def unpark(round: Round) -> None:
    """Let WAKE have the rows of tenants that are active again. Delete the rows of tenants that are gone."""
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.FIND_TENANTS_TO_UNPARK)
        tenants = cursor.fetchall()
    _take_turns(round, tenants, _unpark_batch)


def prune_dead(round: Round) -> None:
    """Forget dead jobs after JOB_DEAD_DAYS."""
    days = timedelta(days=settings.JOB_DEAD_DAYS)
    while execute(statements.PRUNE_DEAD, {"days": days, "batch": BATCH}) == BATCH and round.has_time():
        pass


def forget_heartbeats(round: Round) -> None:
    """Forget the processes that left no sign of life for a day."""
    execute(statements.FORGET_HEARTBEATS, {})


def delete_tenants(round: Round) -> None:
    """Go on with the deletion of each tenant that is `deleting`."""
    _take_turns(round, deletion.find_deleting(), deletion.delete_batch)


SWEEPS: tuple[Sweep, ...] = (sweep_poison, sweep_expired, park, unpark, prune_dead, forget_heartbeats, delete_tenants)


def _take_turns(round: Round, tenants: Iterable[T], do_batch: Callable[[T], bool]) -> None:
    """Do a batch for one tenant after the other, until each has no more to do. `do_batch` returns whether it has."""
    # In no order: none is always the last, nor the one that two relays work on.
    waiting = deque(random.sample(due := [tenant for tenant in tenants if round.troubles.is_due(tenant)], len(due)))
    while waiting and round.has_time():
        tenant = waiting.popleft()
        with round.troubles.isolated(tenant, f"{do_batch.__name__} failed for {tenant}; it is tried again later"):
            if do_batch(tenant):
                waiting.append(tenant)


def _end_each(round: Round, find_rows: str, end: Callable[[Lease], bool], **limits: int) -> None:
    """End the jobs that a statement finds, one of each tenant after the other."""
    # Those that can't be ended stay in front.
    look = LOOK + len(round.troubles)
    with connection.shared_cursor() as cursor:
        cursor.execute(find_rows, {**limits, "batch": look})
        found = [job_id for job_id, _ in cursor.fetchall() if round.troubles.is_due(job_id)]
        cursor.execute(statements.IN_TURNS, {"ids": found})
        in_turns = cursor.fetchall()
    for job_id, task in in_turns:
        if not round.has_time():
            break
        with round.troubles.isolated(
            job_id, f"Could not end job {job_id}: it stays as it is, and is tried again later"
        ):
            _end(str(job_id), task, end)
    round.is_cut = round.is_cut or len(found) == look


def _end(job_id: str, task: str, end: Callable[[Lease], bool]) -> None:
    lease = find(job_id, task=task)
    if lease is not None:
        end(lease)


def _unpark_batch(tenant: tuple[UUID, bool]) -> bool:
    tenant_id, gone = tenant
    statement = statements.DELETE_PARKED if gone else statements.UNPARK
    return execute(statement, {"tenant": tenant_id, "batch": BATCH}) == BATCH

"""The relay's maintenance: sweeps for the rows that nobody else will ever touch again.

A round gives each sweep its turn, with a budget of time, in which it takes one tenant after the other. What a sweep
can't handle, and a sweep that raises, is reported once and does not stop the others. Several relays may sweep at once:
each ending is fenced, and what changes many rows skips those that are locked.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings

from jobs import endings
from jobs.claim import Lease, find, may_take_over, poison_limits, unknown_for
from jobs.relay import deletion, line, statements
from jobs.relay.line import BATCH
from jobs.relay.loop import Timer
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


class UnknownTask(Exception):
    """No worker knows the job's task: it was renamed, or removed."""


class Turn:
    """A sweep's turn in a round, with `seconds` to use."""

    def __init__(self, troubles: Troubles, *, seconds: float) -> None:
        self.troubles = troubles
        self._end = time.monotonic() + seconds
        #: Whether there was more to do than time
        self.is_cut = False

    def has_time(self) -> bool:
        """Whether the sweep may go on. Ask only where there is more to do."""
        self.is_cut = time.monotonic() >= self._end
        return not self.is_cut


# The sweeps. A new one needs a line in SWEEPS.


def sweep_poison(turn: Turn) -> None:
    """Dead-letter the jobs whose workers died too often."""
    error = Poisoned("Its worker was killed or vanished too often while it ran.")
    limits = {**poison_limits(), "take_over": may_take_over()}
    _end_each(turn, statements.FIND_POISON, limits, lambda lease: endings.dead_letter_poison(lease, error))


def sweep_unknown(turn: Turn) -> None:
    """Dead-letter the jobs whose task no worker has known for too long."""
    error = UnknownTask(f"No worker has known its task for {settings.JOB_UNKNOWN_TASK_HOURS:g} hours.")
    limits = {"unknown_for": unknown_for()}
    _end_each(turn, statements.FIND_UNKNOWN, limits, lambda lease: endings.dead_letter_unknown(lease, error))


def sweep_expired(turn: Turn) -> None:
    """End the jobs that expired before a worker took them."""
    _end_each(turn, statements.FIND_EXPIRED, {}, endings.expire)


def park(turn: Turn) -> None:
    """Let the rows in line of tenants that are not active wait apart, where nobody has to look past them."""
    while execute(statements.PARK, {"batch": BATCH}) == BATCH and turn.has_time():
        pass


def unpark(turn: Turn) -> None:
    """Let WAKE have the rows of tenants that are active again. Delete the rows of tenants that are gone."""
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.FIND_TENANTS_TO_UNPARK)
        tenants = cursor.fetchall()
    _take_turns(turn, tenants, _unpark_batch)


def wake_late(turn: Turn) -> None:
    """Wake what became due while no relay looked, or in a transaction that took long."""
    while line.wake() >= BATCH and turn.has_time():
        pass


def retag_late(turn: Turn) -> None:
    """Let relays have the rows that virtual time has passed."""
    while line.retag_late() == BATCH and turn.has_time():
        pass


def prune_dead(turn: Turn) -> None:
    """Forget dead jobs after JOB_DEAD_DAYS."""
    days = timedelta(days=settings.JOB_DEAD_DAYS)
    while execute(statements.PRUNE_DEAD, {"days": days, "batch": BATCH}) == BATCH and turn.has_time():
        pass


def forget_heartbeats(turn: Turn) -> None:
    """Forget the processes that left no sign of life for a day."""
    execute(statements.FORGET_HEARTBEATS, {})


def delete_tenants(turn: Turn) -> None:
    """Go on with the deletion of each tenant that is `deleting`."""
    _take_turns(turn, deletion.find_deleting(), deletion.delete_batch)


Sweep = Callable[[Turn], None]
SWEEPS: tuple[Sweep, ...] = (
    sweep_poison,
    sweep_unknown,
    sweep_expired,
    park,
    unpark,
    prune_dead,
    forget_heartbeats,
    delete_tenants,
)


# For jobs that no relay will find: several times in a long round, and at its end.
URGENT: tuple[Sweep, ...] = (wake_late, retag_late)


class Maintenance:
    """Rounds of the sweeps, each with `budget` seconds. It remembers what it has reported."""

    def __init__(self, *, budget: float = BUDGET, sweeps: Iterable[Sweep] = SWEEPS) -> None:
        self._budget = budget
        self._sweeps = tuple(sweeps)
        self._troubles = Troubles()
        self._urgent_timer = Timer(PAUSE / 2)

    def run(self) -> float:
        """One round; for how many seconds the next one may wait."""
        turns = []
        for sweep in self._sweeps:
            urgent = URGENT if self._urgent_timer.rings() else ()
            turns += [self._give_turn(each) for each in (*urgent, sweep)]
        turns += [self._give_turn(sweep) for sweep in URGENT]
        return SHORT_PAUSE if any(turn.is_cut for turn in turns) else PAUSE

    def run_impatiently(self) -> float:
        """As `run`, on a connection of its own, in which no statement waits for long."""
        if connection.connection is None:
            milliseconds = int(1000 * settings.RELAY_STALL_SECONDS / 2)
            execute(statements.BE_IMPATIENT, {"statement_timeout": f"{milliseconds}ms"})
        return self.run()

    def _give_turn(self, sweep: Sweep) -> Turn:
        turn = Turn(self._troubles, seconds=self._budget)
        with self._troubles.isolated(sweep, f"Maintenance failed in {sweep.__name__}"):
            sweep(turn)
        return turn


def run_maintenance() -> None:
    """All that there is to do, in one go, on the caller's connection."""
    Maintenance(budget=float("inf")).run()


def _take_turns(turn: Turn, tenants: Iterable[T], do_batch: Callable[[T], bool]) -> None:
    """Do a batch for one tenant after the other, until none has more to do. `do_batch` returns whether it has."""
    due = [tenant for tenant in tenants if turn.troubles.is_due(tenant)]
    # In no order: no tenant is always the last, and two relays seldom meet at one.
    waiting = deque(random.sample(due, len(due)))
    while waiting and turn.has_time():
        tenant = waiting.popleft()
        with turn.troubles.isolated(tenant, f"{do_batch.__name__} failed for {tenant}; it is tried again later"):
            if do_batch(tenant):
                waiting.append(tenant)


def _unpark_batch(tenant: tuple[UUID, bool]) -> bool:
    tenant_id, gone = tenant
    statement = statements.DELETE_PARKED if gone else statements.UNPARK
    return execute(statement, {"tenant": tenant_id, "batch": BATCH}) == BATCH


def _end_each(turn: Turn, find_rows: str, limits: dict[str, Any], end: Callable[[Lease], bool]) -> None:
    """End the jobs that a statement finds: one of each tenant, then the second of each, and so on."""
    for job_id, task in _find_in_turns(turn, find_rows, limits):
        if not turn.has_time():
            break
        with turn.troubles.isolated(job_id, f"Could not end job {job_id}; it is tried again later"):
            lease = find(str(job_id), task=task)
            if lease is not None:
                end(lease)


def _find_in_turns(turn: Turn, find_rows: str, limits: dict[str, Any]) -> list[tuple[UUID, str]]:
    with connection.shared_cursor() as cursor:
        # Those that can't be ended stay in front: it looks behind them.
        cursor.execute(find_rows, {**limits, "batch": LOOK + len(turn.troubles)})
        due = [job_id for job_id, _ in cursor.fetchall() if turn.troubles.is_due(job_id)]
        if not due:
            return []
        cursor.execute(statements.IN_TURNS, {"ids": due})
        found: list[tuple[UUID, str]] = cursor.fetchall()
        return found

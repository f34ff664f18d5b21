"""The relay: the one publisher of durable jobs. The outbox is their queue; the broker a buffer, kept short."""

import faulthandler
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any

from celery import states
from django.conf import settings
from django.db import Error
from django.db.backends.signals import connection_created
from kombu.exceptions import KombuError
from kombu.messaging import Producer

from jobs import deletion
from jobs import lease as leases
from jobs.app import TenantCelery
from jobs.lease import FREE, POISON
from jobs.models import RelayPulse
from jobs.schema import clean
from tenants.connection import connection
from tenants.postgresql.base import DatabaseWrapper

logger = logging.getLogger(__name__)

BATCH = 1000
# Seconds
HOUSEKEEPING = 1.0
PULSE = 5.0
WATCH = 1.0
MAX_PAUSE = 5.0
# Messages in the broker. Depth is latency for the tenant whose turn comes next, so it follows what workers drain.
MIN_DEPTH = 8
MAX_DEPTH = 2000

# When the rows of an inactive tenant are to be sent. Not infinity, which Python's datetime can't hold.
PARKING = "timestamptz '9999-01-01 00:00:00+00'"
# By this, an index can be searched; by clock_timestamp(), which is volatile, it can't.
NOW = "statement_timestamp()"
DUE = f"state = 'waiting' AND tag IS NULL AND next_send_at <= {NOW} AND {FREE}"

# The table fills and empties faster than its statistics follow: a plan made for an empty one would read all of it. So a
# row that is to be changed is always found by its key, in an array: by a join it might not be.
# Rows whose time has come join the line: later ones, retries, and those whose message seems lost. A tenant that is not
# active does not hold up the line: its rows are parked.
WAKE = f"""
    WITH due AS (
        SELECT job.id, job.tenant_id, job.next_send_at, (job.tenant_id IS NULL OR home.status = 'active') AS open
        FROM public.jobs_job job LEFT JOIN public.tenants_tenant home ON home.id = job.tenant_id
        WHERE {DUE} AND due_at <= {NOW} AND NOT {POISON}
        ORDER BY job.next_send_at LIMIT {BATCH} FOR UPDATE OF job SKIP LOCKED
    ), placed AS (
        SELECT due.*, next.tag, row_number() OVER (PARTITION BY tenant_id ORDER BY next_send_at) AS place
        FROM due, public.jobs_next_tags(tenant_id) AS next
    )
    UPDATE public.jobs_job job SET
        tag = CASE WHEN open THEN placed.tag + place - 1 END,
        next_send_at = CASE WHEN open THEN job.next_send_at ELSE {PARKING} END
    FROM placed WHERE placed.id = job.id AND job.id = ANY(ARRAY(SELECT id FROM due))
"""
MARK = f"""
    WITH line AS (
        SELECT job.tag, job.seq, (job.tenant_id IS NULL OR coalesce(home.status = 'active', false)) AS open,
            job.id, job.task, coalesce(home.schema_name, 'public'), soft_limit, hard_limit, request_id
        FROM public.jobs_job job LEFT JOIN public.tenants_tenant home ON home.id = job.tenant_id
        WHERE job.tag IS NOT NULL AND {FREE}
        ORDER BY job.tag, job.seq LIMIT %(room)s FOR UPDATE OF job SKIP LOCKED
    ), marked AS (
        UPDATE public.jobs_job SET
            tag = NULL,
            sends = sends + 1,
            next_send_at = clock_timestamp()
                + least(%(first)s * power(2, least(sends, 30)), %(longest)s) * interval '1 second'
        WHERE id = ANY(ARRAY(SELECT id FROM line WHERE open))
    ), parked AS (
        UPDATE public.jobs_job SET tag = NULL, next_send_at = {PARKING}
        WHERE id = ANY(ARRAY(SELECT id FROM line WHERE NOT open))
    )
    SELECT * FROM line
"""
PARKED = f"state = 'waiting' AND tag IS NULL AND next_send_at = {PARKING}"
# The tenants of parked rows that are active again, or gone. From one tenant to the next it hops over the rows in the
# index, so that the many that one may have cost nothing each time.
MOVED_ON = f"""
    WITH RECURSIVE parked (tenant_id) AS (
        (SELECT tenant_id FROM public.jobs_job WHERE {PARKED} ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant_id FROM public.jobs_job
                WHERE {PARKED} AND tenant_id > parked.tenant_id ORDER BY tenant_id LIMIT 1)
        FROM parked WHERE parked.tenant_id IS NOT NULL
    )
    SELECT parked.tenant_id, home.id IS NULL
    FROM parked LEFT JOIN public.tenants_tenant home ON home.id = parked.tenant_id
    WHERE parked.tenant_id IS NOT NULL AND (home.id IS NULL OR home.status = 'active')
"""
PARKED_BATCH = f"""
    id = ANY(ARRAY(
        SELECT id FROM public.jobs_job WHERE {PARKED} AND tenant_id = %(tenant)s LIMIT {BATCH} FOR UPDATE SKIP LOCKED
    ))
"""
UNPARK = f"UPDATE public.jobs_job SET next_send_at = clock_timestamp() WHERE {PARKED_BATCH}"
FORGET = f"DELETE FROM public.jobs_job WHERE {PARKED_BATCH}"
PRUNE = f"""
    DELETE FROM public.jobs_job WHERE id = ANY(ARRAY(
        SELECT id FROM public.jobs_job WHERE state = 'dead' AND died_at < {NOW} - %(days)s
        ORDER BY died_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED
    ))
"""
POISONED = f"{DUE} AND {POISON}"
EXPIRED = f"state = 'waiting' AND expires_at <= {NOW} AND {FREE}"
# Each in the order of its index: in no order, PostgreSQL may look through all rows that are not due.
FIND_POISONED = f"SELECT id, task FROM public.jobs_job WHERE {POISONED} ORDER BY next_send_at LIMIT {BATCH}"
FIND_EXPIRED = f"SELECT id, task FROM public.jobs_job WHERE {EXPIRED} ORDER BY expires_at LIMIT {BATCH}"


# The table fills and empties faster than its statistics follow, so plans that would be good for a small one are ruled
# out. To compile those that are left, for being called expensive, would take longer than to run them.
BY_INDEX = "SET enable_seqscan = off; SET enable_sort = off; SET jit = off"


class Poisoned(Exception):
    """The job's worker was killed, or vanished, too often while it ran."""


@dataclass(frozen=True, slots=True)
class Due:
    """A row that was marked as sent, and is to be published."""

    id: uuid.UUID
    task: str
    schema: str
    soft_limit: float | None
    hard_limit: float | None
    request_id: str


@contextmanager
def planning_by_index() -> Iterator[None]:
    """In each database session that this process opens meanwhile: see BY_INDEX."""
    connection.close()
    connection_created.connect(_plan_by_index)
    try:
        yield
    finally:
        connection_created.disconnect(_plan_by_index)
        connection.close()


def _plan_by_index(connection: Any, **kwargs: Any) -> None:
    if isinstance(connection, DatabaseWrapper):
        with connection.shared_cursor() as cursor:
            cursor.execute(BY_INDEX)


class Relay:
    """Moves due jobs from the outbox to the broker. Many may run at once; one is enough."""

    def __init__(self, app: TenantCelery) -> None:
        self.app = app
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        # A queue, since its put() is reentrant: an Event deadlocks if the signal comes while its lock is held.
        self._stops: SimpleQueue[None] = SimpleQueue()
        self._broker = app.connection_for_write()
        self._outages = (Error, KombuError, OSError, *self._broker.connection_errors, *self._broker.channel_errors)
        self._producer: Producer | None = None
        self._depth = MIN_DEPTH
        # What the queue held after the last look, and how much less it was at this one.
        self._expected = self._drained = 0
        self._next_wake = self._next_housekeeping = self._next_pulse = 0.0

    def run(self) -> None:
        """Relay until `stop()` is called. Backs off while database or broker is away; nothing is lost meanwhile.

        Ends the process if it hangs for RELAY_STALL_SECONDS, for whoever supervises it to start another one.
        """
        pause = next_watch = 0.0
        while not self._stopped(pause):
            if time.monotonic() >= next_watch:
                # No time-out of a server's comes from one that is cut off behind a proxy that lives on.
                faulthandler.dump_traceback_later(settings.RELAY_STALL_SECONDS, exit=True)
                next_watch = time.monotonic() + min(WATCH, settings.RELAY_STALL_SECONDS / 2)
            try:
                # Busy as long as workers drain the queue too, or it would run dry while this sleeps.
                busy = self.tick() or self._drained
                pause = settings.RELAY_BUSY_POLL if busy else settings.RELAY_IDLE_POLL
            except Exception as error:  # nobody else publishes: whatever it is, the relay goes on
                pause = min(max(2 * pause, settings.RELAY_IDLE_POLL), MAX_PAUSE)
                known = isinstance(error, self._outages)
                logger.warning("The relay pauses for %.1f s: %r", pause, error, exc_info=not known)
                self._disconnect()
        faulthandler.cancel_dump_traceback_later()
        self._disconnect()

    def stop(self) -> None:
        """Let `run` end after the tick that it is in; for signal handlers and other threads."""
        self._stops.put(None)

    def _stopped(self, pause: float) -> bool:
        try:
            self._stops.get(timeout=pause)
        except Empty:
            return False
        return True

    def tick(self) -> int:
        """One look at outbox and broker; how many jobs were sent."""
        self._keep_house()
        woken = self._wake()
        room = self._room()
        due = mark(room) if room else []
        self._publish(due)
        return len(due) + woken

    def drain(self) -> int:
        """Send whatever is due now, however much that is for the broker; how many jobs."""
        self._connected()  # before anything is marked as sent
        keep_house()
        while wake():
            pass
        sent = 0
        while due := mark(BATCH):
            self._publish(due)
            sent += len(due)
        return sent

    def _wake(self) -> int:
        # However often a busy relay looks at the line: what is woken has waited for its time anyway.
        now = time.monotonic()
        if now < self._next_wake:
            return 0
        woken = wake()
        self._next_wake = now if woken == BATCH else now + settings.RELAY_IDLE_POLL
        return woken

    def _room(self) -> int:
        length = self._connected().channel.queue_declare("jobs").message_count
        self._drained = max(self._expected - length, 0)
        self._depth = min(max(2 * self._drained, MIN_DEPTH), MAX_DEPTH)
        self._expected = length
        # Filled from half empty on: one larger batch costs less than many small ones.
        return self._depth - length if 2 * length <= self._depth else 0

    def _publish(self, due: list[Due]) -> None:
        if not due:
            return
        producer = self._connected()
        with producer.batch(max_size=BATCH):
            for job in due:
                self.app.send_job(job, producer=producer)
        self._expected += len(due)

    def _connected(self) -> Producer:
        if self._producer is None:
            self._broker = self._broker.clone()
            self._producer = self.app.amqp.Producer(self._broker.channel(), auto_declare=False)
            self.app.amqp.queues["jobs"](self._producer.channel).declare()
        return self._producer

    def _disconnect(self) -> None:
        self._producer = None
        self._broker.release()
        connection.close()

    def _keep_house(self) -> None:
        now = time.monotonic()
        if now >= self._next_housekeeping:
            self._next_housekeeping = now + HOUSEKEEPING
            keep_house()
        if now >= self._next_pulse:
            self._next_pulse = now + PULSE
            beat(self.name)


def wake() -> int:
    """Let the rows whose time has come join the line; how many rows were looked at."""
    return _execute(WAKE, leases.limits())


def mark(room: int) -> list[Due]:
    """Take up to `room` jobs out of the line, in fair order, and mark them as sent, committed before they are
    published: a crash in between costs a delay, the reverse could forget that a message is out.
    """
    due: list[Due] = []
    parked = 1
    while parked and len(due) < room:
        rows = _mark(room - len(due))
        opened = [Due(*columns) for _, _, open, *columns in rows if open]
        parked = len(rows) - len(opened)  # those of inactive tenants, which leave room for others
        due += opened
    return due


def _mark(room: int) -> list[tuple[Any, ...]]:
    parameters = {"room": room, "first": settings.JOB_FIRST_RESEND, "longest": settings.JOB_MAX_RESEND}
    with connection.cursor() as cursor:
        cursor.execute(MARK, parameters)
        return sorted(cursor.fetchall())


def keep_house() -> None:
    """What has to be looked at now and then: rows that nobody else will ever touch again."""
    clean()
    bury_poisoned()
    expire()
    unpark()
    _execute(PRUNE, {"days": timedelta(days=settings.JOB_DEAD_DAYS)})
    deletion.continue_deletions()


def bury_poisoned() -> None:
    error = Poisoned("Its worker was killed or vanished too often while it ran.")
    for lease in _found(FIND_POISONED):
        with _one_by_one(lease):
            leases.bury(lease, error=error, where=f"id = %(id)s AND {POISONED}")


def expire() -> None:
    for lease in _found(FIND_EXPIRED):
        with _one_by_one(lease):
            leases.end(lease, state=states.REVOKED, reason="expired", where=f"id = %(id)s AND {EXPIRED}")


def unpark() -> None:
    """Let the rows of tenants that are active again be woken, and delete those of tenants that are gone."""
    with connection.cursor() as cursor:
        cursor.execute(MOVED_ON)
        moved_on = cursor.fetchall()
    for tenant_id, gone in moved_on:
        while _execute(FORGET if gone else UNPARK, {"tenant": tenant_id}) == BATCH:
            pass


def _found(statement: str) -> Iterator[leases.Lease]:
    with connection.cursor() as cursor:
        cursor.execute(statement, leases.limits())
        rows = cursor.fetchall()
    for id, task in rows:
        if lease := leases.find(str(id), task=task):
            yield lease


@contextmanager
def _one_by_one(lease: leases.Lease) -> Iterator[None]:
    """What is wrong with one row (its tenant's schema is missing, say) must not keep the relay from the others."""
    try:
        yield
    except Exception:
        if not connection.is_usable():
            raise
        logger.exception("Could not end job %s: it stays as it is", lease.id)


def beat(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO public.jobs_relaypulse (name, seen_at) VALUES (%s, clock_timestamp())
            ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at
            """,
            [name],
        )
    RelayPulse.objects.extra(where=["seen_at < clock_timestamp() - interval '1 day'"]).delete()


def _execute(statement: str, parameters: Mapping[str, Any] | None = None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)

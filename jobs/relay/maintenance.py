"""The relay's maintenance: the rows that nobody else will ever touch again."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings

from jobs import endings
from jobs.claim import Lease, find, may_take_over, poison_limits, unknown_for
from jobs.relay import deletion, statements
from jobs.relay.line import BATCH
from tenants.connection import connection, execute

logger = logging.getLogger(__name__)


class Poisoned(Exception):
    """The job's worker was killed, or vanished, too often while it ran."""


class UnknownTask(Exception):
    """No worker knows the job's task: it was renamed, or removed."""


def run_maintenance() -> None:
    """One round of all sweeps."""
    sweep_poison()
    sweep_unknown()
    sweep_expired()
    unpark()
    execute(statements.PRUNE_DEAD, {"days": timedelta(days=settings.JOB_DEAD_DAYS), "batch": BATCH})
    deletion.continue_deletions()


def sweep_poison() -> None:
    """Dead-letter the jobs whose workers died too often."""
    error = Poisoned("Its worker was killed or vanished too often while it ran.")
    limits = {**poison_limits(), "take_over": may_take_over()}
    for lease in _found(statements.FIND_POISON, {**limits, "batch": BATCH}):
        with _isolated(lease):
            endings.dead_letter_poison(lease, error)


def sweep_unknown() -> None:
    """Dead-letter the jobs whose task no worker has known for too long."""
    error = UnknownTask(f"No worker has known its task for {settings.JOB_UNKNOWN_TASK_HOURS} hours.")
    for lease in _found(statements.FIND_UNKNOWN, {"unknown_for": unknown_for(), "batch": BATCH}):
        with _isolated(lease):
            endings.dead_letter_unknown(lease, error)


def sweep_expired() -> None:
    """End the jobs that expired before a worker took them."""
    for lease in _found(statements.FIND_EXPIRED, {"batch": BATCH}):
        with _isolated(lease):
            endings.expire(lease)


def unpark() -> None:
    """Let WAKE have the rows of tenants that are active again. Delete the rows of tenants that are gone."""
    with connection.shared_cursor() as cursor:
        cursor.execute(statements.FIND_TENANTS_TO_UNPARK)
        tenants = cursor.fetchall()
    for tenant_id, gone in tenants:
        statement = statements.DELETE_PARKED if gone else statements.UNPARK
        while execute(statement, {"tenant": tenant_id, "batch": BATCH}) == BATCH:
            pass


def record_heartbeat(name: str) -> None:
    """Leave the sign of life of the relay with this name, and forget relays that left none for a day."""
    execute(statements.RECORD_HEARTBEAT, {"name": name})
    execute(statements.FORGET_RELAYS, {})


def _found(statement: str, parameters: Mapping[str, Any]) -> Iterator[Lease]:
    with connection.shared_cursor() as cursor:
        cursor.execute(statement, parameters)
        rows = cursor.fetchall()
    for job_id, task in rows:
        lease = find(str(job_id), task=task)
        if lease is not None:
            yield lease


@contextmanager
def _isolated(lease: Lease) -> Iterator[None]:
    """What is wrong with one row (its tenant's schema is missing, say) must not keep the relay from the others."""
    try:
        yield
    except Exception:
        if not connection.is_usable():
            raise
        logger.exception("Could not end job %s: it stays as it is", lease.id)

"""The worker's side of durable jobs: every statement that claims, ends or hands back a job.

The fence: each statement that ends an attempt names the lease's token. Whoever does not hold the lease any more hits no
row; where effects hang on it (`complete`), the statement then raises on the server, in the same round trip, so that a
COMMIT which is already on its way fails too.
"""

import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from traceback import TracebackException
from typing import Any

from celery import current_app, states
from celery.canvas import Signature
from celery.utils.saferepr import saferepr
from django.conf import settings
from django.db import DataError, transaction
from kombu.utils.json import loads
from psycopg.errors import DivisionByZero

from jobs import outbox, results
from jobs.app import OPTION
from jobs.schema import TenantUnavailable
from tenants.connection import HAS_SCHEMA, connection, healed

logger = logging.getLogger(__name__)

# The first half of the advisory lock's key; the second is the tenant's.
TENANT_LOCK = 0x7E4A
NO_TOKEN = str(uuid.UUID(int=0))

# What a row is like. FREE: nobody runs it. POISON: it may not run again. HELD is the fence.
FREE = "(token IS NULL OR lease_until <= clock_timestamp())"
POISON = "(kills >= %(max_kills)s OR lost + (token IS NOT NULL)::int >= %(max_lost)s)"
HELD = "id = %(id)s AND token = %(token)s AND state = 'waiting'"
NOT_ELSEWHERE = "id = %(id)s AND state = 'waiting' AND (token IS NULL OR token = %(token)s)"
UNBEGUN = "id = %(id)s AND state = 'waiting' AND token IS NULL AND attempt = 0"
# Whether bodies may run in the tenant. Not by EXISTS, for which PostgreSQL may look at every tenant there is.
OPEN = f"""coalesce(
    (SELECT home.status = 'active' AND {HAS_SCHEMA} FROM public.tenants_tenant home WHERE home.id = job.tenant_id),
    tenant_id IS NULL
)"""

# A crash of the server may forget the claim of a job that is all in one transaction: that is forgotten with it.
UNFLUSHED = """
    set_config(
        'synchronous_commit',
        CASE WHEN %(atomic)s AND sends <= 1 THEN 'off' ELSE current_setting('synchronous_commit') END,
        true
    )
"""
TRY_LOCK = "SELECT pg_try_advisory_xact_lock_shared(%(class)s, hashtext(%(tenant)s))"
LOCK = "SELECT pg_advisory_xact_lock_shared(%(class)s, hashtext(%(tenant)s))"
CLAIM = f"""
    UPDATE public.jobs_job job SET
        attempt = attempt + (token IS DISTINCT FROM %(token)s)::int,
        lost = lost + (token IS NOT NULL AND token <> %(token)s)::int,
        token = %(token)s,
        lease_until = clock_timestamp() + %(lease)s,
        next_send_at = clock_timestamp() + %(lease)s,
        tag = NULL
    WHERE id = %(id)s AND task = %(task)s AND state = 'waiting'
        AND {OPEN}
        AND (token = %(token)s
             OR due_at <= clock_timestamp()
                AND (expires_at IS NULL OR expires_at > clock_timestamp())
                AND {FREE} AND NOT {POISON})
    RETURNING
        tenant_id,
        coalesce((SELECT schema_name FROM public.tenants_tenant home WHERE home.id = job.tenant_id), 'public'),
        args, kwargs, link, link_error, attempt, retries,
        {UNFLUSHED}
"""
GATE = f"SELECT FROM public.jobs_job job WHERE {HELD} AND lease_until > clock_timestamp() AND {OPEN}"
# Dividing by the number of deleted rows: the way to raise on the server without a function of our own.
COMPLETE = f"WITH ended AS (DELETE FROM public.jobs_job WHERE {HELD} RETURNING id) SELECT 1 / count(*) FROM ended"
RETRY = f"""
    UPDATE public.jobs_job SET
        token = NULL, kills = 0, sends = 0, retries = retries + %(counted)s, error = %(error)s,
        due_at = term.due_at, next_send_at = term.due_at
    FROM (SELECT coalesce(%(eta)s::timestamptz, clock_timestamp() + %(countdown)s) AS due_at) AS term
    WHERE {HELD}
"""
HAND_BACK = f"""
    UPDATE public.jobs_job SET
        token = NULL, kills = kills + %(counted)s, next_send_at = clock_timestamp() + %(delay)s
    WHERE {HELD}
"""
# One that is in line again, is not due, or runs elsewhere is left alone.
PUT_OFF = """
    UPDATE public.jobs_job SET next_send_at = clock_timestamp() + %(delay)s, error = %(reason)s
    WHERE id = %(id)s AND state = 'waiting' AND token IS NULL AND tag IS NULL AND due_at <= clock_timestamp()
"""
DEAD = """
    UPDATE public.jobs_job SET
        state = 'dead', token = NULL, tag = NULL, died_at = clock_timestamp(),
        error = %(error)s, traceback = %(traceback)s
"""
HOME = """
    SELECT job.tenant_id, coalesce(tenant.schema_name, 'public'), args, kwargs, link, link_error, attempt, retries
    FROM public.jobs_job job LEFT JOIN public.tenants_tenant tenant ON tenant.id = job.tenant_id
    WHERE job.id = %(id)s AND (job.tenant_id IS NULL) = (tenant.id IS NULL)
"""


class LeaseLost(Exception):
    """Someone else holds the job by now, or it has ended: nothing of this attempt may count."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed job."""

    id: str
    token: str
    task: str
    tenant_id: uuid.UUID | None
    schema: str
    args: list[Any]
    kwargs: dict[str, Any]
    link: list[dict[str, Any]]
    link_error: list[dict[str, Any]]
    attempt: int
    retries: int

    @property
    def key(self) -> dict[str, str]:
        return {"id": self.id, "token": self.token}


def claim(id: str, *, task: str, token: str, hard_limit: float, atomic: bool = False) -> Lease | None:
    """Take the lease of a job, until `hard_limit` seconds and the margin from now, committed before this returns: on
    disk too, but for the first attempt of an `atomic` one.

    None: a duplicate, an early message, an inactive tenant, a job that has ended: nothing may run. A repeat with the
    same token (after a lost reply) takes the same lease again, and counts no second attempt.
    """
    parameters = {
        "id": id,
        "task": task,
        "token": token,
        "atomic": atomic,
        "lease": timedelta(seconds=hard_limit + settings.JOB_LEASE_MARGIN),
        **limits(),
    }
    row = healed(lambda: _fetch(CLAIM, parameters))
    return _lease(row, id=id, task=task, token=token) if row else None


def find(id: str, *, task: str, token: str = NO_TOKEN) -> Lease | None:
    """What a row says of its job, for who did not claim it: the parent of the process that did, and the relay."""
    row = _fetch(HOME, {"id": id})
    return _lease(row, id=id, task=task, token=token) if row else None


def pass_gate(lease: Lease) -> bool:
    """Whether the body may start. Held to the end of this transaction: no deletion of its tenant comes in between."""
    if lease.tenant_id is None:  # `public` is never deleted
        return _fetch(GATE, lease.key) is not None
    # In the tenant's schema from here on. Two statements, one message: the second one sees what the lock waited for.
    with connection.cursor() as cursor:
        cursor.execute(f"{TRY_LOCK}; {GATE}", {**lease.key, **_tenant_lock(lease)})
        [locked] = cursor.fetchone()
        cursor.nextset()
        return locked and cursor.fetchone() is not None


def lock_tenant(lease: Lease) -> None:
    """Before any job's row is locked: a deletion takes the tenant first and then its jobs."""
    if lease.tenant_id is not None:
        _fetch(LOCK, _tenant_lock(lease))


def complete(lease: Lease, result: Any) -> None:
    """End the job with the COMMIT of its effects, in one message. If the lease is lost, see `is_lost`, that fails."""
    row = {**_result_row(lease, states.SUCCESS), **results.encoded(result)}
    dispatch_links(lease, lease.link, result)
    connection.send_with_next(COMPLETE, lease.key)
    connection.send_with_next(results.statement(lease.schema), results.columns(row))


def is_lost(error: DataError) -> bool:
    """Whether it is what `complete` raises on the server when the lease is not held any more."""
    return isinstance(error.__cause__, DivisionByZero)


def retry(lease: Lease, when: datetime | float | None, *, error: str, counted: bool = True) -> bool:
    """Store the next try, at a time or in so many seconds; whether the lease was still held."""
    eta = when if isinstance(when, datetime) else None
    seconds = when if isinstance(when, int | float) else settings.JOB_FIRST_RESEND
    terms = {"eta": eta, "countdown": timedelta(seconds=seconds), "error": error, "counted": int(counted)}
    return _hits(RETRY, {**lease.key, **terms})


def hand_back(key: Mapping[str, str], *, counted: bool, delay: float = 0) -> bool:
    """Free a job, to be sent again in so many seconds; `counted` if its child was killed under it.

    By token, never by id alone: a doubled message's child may die while another one runs the job.
    """
    return _hits(HAND_BACK, {**key, "counted": int(counted), "delay": timedelta(seconds=delay)})


def put_off(id: str, *, reason: str) -> bool:
    """Leave a job that was received, but can't run here, to other workers: sent again soon, and uncounted."""
    return _hits(PUT_OFF, {"id": id, "reason": reason, "delay": timedelta(seconds=settings.JOB_FIRST_RESEND)})


def bury(lease: Lease, *, error: BaseException, traceback: str = "", where: str = HELD) -> bool:
    """Let the job be dead, with FAILURE in its tenant's results and its errbacks dispatched, in one transaction.

    False, and nothing changed, if the row is not (any more) as `where` says: held by this lease.
    """
    traceback = _storable(traceback)
    parameters = {**lease.key, **limits(), "error": describe(error), "traceback": traceback}
    with transaction.atomic():
        lock_tenant(lease)
        if not _hits(f"{DEAD} WHERE {where}", parameters):
            return False
        dispatch_links(lease, lease.link_error, lease.id)
        row = {
            **_result_row(lease, states.FAILURE),
            **results.encoded(current_app.backend.prepare_exception(error, "json")),
            "traceback": traceback,
        }
        results.store(lease.schema, row)
    return True


def end(lease: Lease, *, state: str, reason: str, where: str = HELD) -> bool:
    """End a job that brought no result (ignored, revoked, expired). False if the row is not as `where` says."""
    with transaction.atomic():
        lock_tenant(lease)
        if not _hits(f"DELETE FROM public.jobs_job WHERE {where}", {**lease.key, **limits()}):
            return False
        results.store(lease.schema, {**_result_row(lease, state), **results.encoded(reason)})
    return True


def limits() -> dict[str, int]:
    return {"max_kills": settings.JOB_MAX_KILLS, "max_lost": settings.JOB_MAX_LOST}


def dispatch_links(lease: Lease, links: Iterable[dict[str, Any]], *head: Any) -> None:
    """Write each linked task as a job of its own; it belongs to its signature's tenant, else to this job's."""
    for link in links:
        signature = Signature.from_dict(link, app=current_app)
        args, kwargs, _ = signature._merge(head)
        schema = signature.options.get(OPTION, lease.schema)
        try:
            outbox.insert_many(outbox.Terms.of_link(signature), [(args, kwargs)], schema=schema)
        except TenantUnavailable:
            # It goes with its tenant, as that one's waiting jobs did; no reason for this job not to end.
            logger.warning("Job %s links to %s of a tenant that is gone (%s)", lease.id, signature.task, schema)


def describe(error: BaseException) -> str:
    # An exception whose own `__str__` raises has a text here, too.
    return _storable(f"{type(error).__name__}: {TracebackException.from_exception(error)}")


def _storable(text: str) -> str:
    # What PostgreSQL can't keep must not keep a job from ending.
    return text.replace("\0", "\ufffd").encode(errors="backslashreplace").decode()


def _result_row(lease: Lease, state: str) -> dict[str, Any]:
    return {
        "task_id": lease.id,
        "task_name": lease.task,
        "task_args": results.encoded(saferepr(lease.args))["result"],
        "task_kwargs": results.encoded(saferepr(lease.kwargs))["result"],
        "status": state,
        "meta": results.encoded({"children": [], "attempts": lease.attempt})["result"],
    }


def _lease(row: tuple[Any, ...], *, id: str, task: str, token: str) -> Lease:
    tenant_id, schema, args, kwargs, link, link_error, attempt, retries, *_ = row
    return Lease(
        id=id,
        token=token,
        task=task,
        tenant_id=tenant_id,
        schema=schema,
        args=loads(args),
        kwargs=loads(kwargs),
        link=loads(link),
        link_error=loads(link_error),
        attempt=attempt,
        retries=retries,
    )


def _tenant_lock(lease: Lease) -> dict[str, Any]:
    return {"class": TENANT_LOCK, "tenant": str(lease.tenant_id)}


def _fetch(statement: str, parameters: Mapping[str, Any]) -> Any:
    with connection.shared_cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()


def _hits(statement: str, parameters: Mapping[str, Any]) -> bool:
    with connection.shared_cursor() as cursor:
        cursor.execute(statement, parameters)
        return bool(cursor.rowcount == 1)

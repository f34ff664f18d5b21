"""How an attempt or a job ends. Each ending of an attempt is fenced: it changes nothing once the lease is lost.

An ending that takes the tenant's lock takes it before the job's row.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from traceback import TracebackException, format_exception
from typing import Any

from celery import current_app, states
from celery.canvas import Signature
from celery.utils.saferepr import saferepr
from django.conf import settings
from django.db import DatabaseError, transaction

from jobs import outbox, results, statements
from jobs.celery_hooks.internals import encodable
from jobs.celery_hooks.signatures import linked_call
from jobs.claim import Lease, find, lock_tenant, poison_limits, unknown_for
from jobs.message import OPTION
from jobs.models import Job
from jobs.schema import TenantUnavailable
from tenants.connection import connection, execute

logger = logging.getLogger(__name__)

#: The SQLSTATE of `jobs_lease_lost()`.
LEASE_LOST = "TN001"


class LeaseLost(Exception):
    """Someone else holds the job by now, or it has ended: nothing of this attempt may count."""


# Of an attempt


def complete(lease: Lease, result: Any) -> None:
    """End the job with the COMMIT of its effects, in one message. It fails once the lease is lost (`is_lease_lost`)."""
    row = {**_result_row(lease, states.SUCCESS), **results.encoded(result)}
    dispatch_links(lease, lease.link, result)
    connection.send_with_commit(statements.COMPLETE, lease.key)
    results.store_with_commit(lease.schema, row)


def is_lease_lost(error: DatabaseError) -> bool:
    """Whether it is what `complete` raises on the server once the lease is lost."""
    return getattr(error.__cause__, "sqlstate", None) == LEASE_LOST


def retry(lease: Lease, when: datetime | float | None, *, error: str, counted: bool = True) -> bool:
    """Store the next try, at a time or in so many seconds. False if the lease is lost."""
    eta = when if isinstance(when, datetime) else None
    seconds = when if isinstance(when, int | float) else settings.JOB_FIRST_RESEND
    terms = {"eta": eta, "countdown": timedelta(seconds=seconds), "error": error, "counted": int(counted)}
    return execute(statements.RETRY, {**lease.key, **terms}) == 1


def snooze(lease: Lease, delay: timedelta) -> bool:
    """Put the job off, without using up a try. False if the lease is lost."""
    return execute(statements.SNOOZE, {**lease.key, "delay": delay}) == 1


def hand_back(
    key: Mapping[str, str], *, error: BaseException, killed: bool = False, transient: bool = False, delay: float = 0
) -> bool:
    """Free a job, to be sent again in `delay` seconds; `killed` if its child was killed under it, `transient` if a
    passing error of the database ended the attempt: those are counted.

    By token, and never by id alone: a doubled message's child may die while another one runs the job. False if the
    lease is lost.
    """
    terms = {"kills": int(killed), "transients": int(transient), "delay": timedelta(seconds=delay)}
    why = {"error": describe(error), "traceback": _storable("".join(format_exception(error)))}
    return execute(statements.HAND_BACK, {**key, **terms, **why}) == 1


def dead_letter(lease: Lease, error: BaseException, *, traceback: str = "") -> bool:
    """Let the job be dead, with FAILURE in its tenant's results and its errbacks dispatched, in one transaction.

    False, and nothing is changed, if the lease is lost.
    """
    return _dead_letter(statements.DEAD_LETTER, lease, error, traceback)


def ignore(lease: Lease, *, reason: str) -> bool:
    """End a job whose body raised Ignore. False if the lease is lost."""
    return _delete(statements.DELETE_HELD, lease, state=states.IGNORED, reason=reason)


# Of a job that nobody runs


def revoke(lease: Lease, *, reason: str) -> bool:
    """End a job that was revoked before or while this lease's worker ran it. False if another worker holds it."""
    return _delete(statements.DELETE_NOT_HELD_ELSEWHERE, lease, state=states.REVOKED, reason=reason)


def expire(lease: Lease) -> bool:
    """End a job that has expired. False if a worker runs it after all."""
    return _delete(statements.DELETE_EXPIRED, lease, state=states.REVOKED, reason="expired")


def dead_letter_poison(lease: Lease, error: BaseException) -> bool:
    """Let a poisonous job be dead. False if it is not poison (any more), or a worker runs it."""
    return _dead_letter(statements.DEAD_LETTER_POISON, lease, error, "")


def dead_letter_unknown(lease: Lease, error: BaseException) -> bool:
    """Let a job be dead whose task nobody knows. False if somebody knows it after all, or runs it."""
    return _dead_letter(statements.DEAD_LETTER_UNKNOWN, lease, error, "")


def mark_unknown(job_id: str, *, reason: str) -> bool:
    """Note that a worker did not know the job's task. It is sent again soon: the next worker may."""
    delay = timedelta(seconds=settings.JOB_FIRST_RESEND)
    return execute(statements.MARK_UNKNOWN, {"id": job_id, "reason": reason, "delay": delay}) == 1


def defer(job_id: str, *, reason: str) -> bool:
    """Leave a job whose message came to a worker that can't run it to other workers: sent again soon, and uncounted."""
    delay = timedelta(seconds=settings.JOB_FIRST_RESEND)
    return execute(statements.DEFER, {"id": job_id, "reason": reason, "delay": delay}) == 1


# By people


def cancel(job: Job) -> bool:
    """End a job that has not begun, as REVOKED. False if it has begun, or ended."""
    lease = find(str(job.pk), task=job.task)
    return lease is not None and _delete(statements.CANCEL, lease, state=states.REVOKED, reason="cancelled")


def replay(job: Job) -> bool:
    """Let a dead job run again, with all its tries. False if it isn't dead (any more)."""
    lease = find(str(job.pk), task=job.task)
    if lease is None:
        return False
    with transaction.atomic():
        lock_tenant(lease)
        if execute(statements.REPLAY, {"id": lease.id}) == 0:
            return False
        # A result never leaves a terminal state, except here: the job is under way again.
        results.forget(lease.schema, lease.id)
    return True


def discard(job: Job) -> bool:
    """Remove a dead job; its FAILURE stays in its tenant's results. False if it isn't dead (any more)."""
    deleted, _ = Job.objects.filter(pk=job.pk, state=Job.State.DEAD).delete()
    return bool(deleted)


def dispatch_links(lease: Lease, links: Iterable[dict[str, Any]], *head: Any) -> None:
    """Write each linked task as a job of its own. It belongs to its signature's tenant, or else to this job's."""
    for link in links:
        signature = Signature.from_dict(link, app=current_app)
        schema = signature.options.get(OPTION, lease.schema)
        try:
            outbox.insert_many(outbox.Terms.of_link(signature), [linked_call(signature, head)], schema=schema)
        except TenantUnavailable:
            # Its tenant is gone, and so are that tenant's waiting jobs. This job ends all the same.
            logger.warning("Job %s links to %s of a tenant that is gone (%s)", lease.id, signature.task, schema)


def describe(error: BaseException) -> str:
    """An exception in words, even one whose own `__str__` raises."""
    return _storable(f"{type(error).__name__}: {TracebackException.from_exception(error)}")


def _dead_letter(statement: str, lease: Lease, error: BaseException, traceback: str) -> bool:
    traceback = _storable(traceback)
    limits = {**poison_limits(), "unknown_for": unknown_for()}
    parameters = {**lease.key, **limits, "error": describe(error), "traceback": traceback}
    with transaction.atomic():
        lock_tenant(lease)
        if execute(statement, parameters) == 0:
            return False
        dispatch_links(lease, lease.link_error, lease.id)
        failure = results.encoded(encodable(error))
        results.store(lease.schema, {**_result_row(lease, states.FAILURE), **failure, "traceback": traceback})
    return True


def _delete(statement: str, lease: Lease, *, state: str, reason: str) -> bool:
    with transaction.atomic():
        lock_tenant(lease)
        if execute(statement, lease.key) == 0:
            return False
        results.store(lease.schema, {**_result_row(lease, state), **results.encoded(reason)})
    return True


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

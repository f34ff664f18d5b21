"""How an attempt or a job ends. Each ending of an attempt is fenced: it changes nothing once the lease is lost.

An ending that takes the tenant's lock takes it before the job's row.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from celery import current_app, states
from celery.canvas import Signature
from celery.utils.saferepr import saferepr
from django.conf import settings
from django.db import DatabaseError, transaction
from psycopg.errors import UndefinedFunction

from jobs import outbox, results, statements
from jobs.celery_hooks.internals import encodable
from jobs.celery_hooks.signatures import linked_call
from jobs.claim import Lease, find, lock_tenant, poison_limits, unknown_for
from jobs.errors import MAX_TRACEBACK, describe, format_traceback, is_refusal
from jobs.message import OPTION
from jobs.models import Job
from jobs.schema import TenantUnavailable
from jobs.times import moment, seconds
from tenants.connection import connection, execute

logger = logging.getLogger(__name__)

#: Characters of a job's arguments in its result.
MAX_SHOWN = 1_024
#: The SQLSTATE of `jobs_lease_lost()`.
LEASE_LOST = "TN001"
#: How the names of all functions begin that the release step makes.
OWN_FUNCTIONS = "public.jobs_"


class LeaseLost(Exception):
    """Someone else holds the job by now, or it has ended: nothing of this attempt may count."""


# Of an attempt


def complete(lease: Lease, result: Any) -> None:
    """End the job with the COMMIT of its effects, in one message. It fails once the lease is lost (`is_lease_lost`)."""
    row = {**_result_row(lease, states.SUCCESS), **results.encoded_plainly(result)}
    for link in lease.link:
        dispatch_link(lease, link, result)
    connection.send_with_commit(statements.COMPLETE, lease.key)
    results.store_with_commit(lease.schema, row)


def is_lease_lost(error: DatabaseError) -> bool:
    """Whether it is what `complete` raises on the server once the lease is lost."""
    return getattr(error.__cause__, "sqlstate", None) == LEASE_LOST


def lacks_function_of_ours(error: DatabaseError) -> bool:
    """Whether a statement of this app named a function that the release step makes.

    What a trigger lacks is its author's affair: PostgreSQL tells of the trigger, as the context.
    """
    cause = error.__cause__
    if not isinstance(cause, UndefinedFunction) or cause.diag.context:
        return False
    # In whatever language the server speaks, it repeats the name.
    return OWN_FUNCTIONS in (cause.diag.message_primary or "")


def retry(lease: Lease, when: datetime | float | None, *, error: BaseException, counted: bool = True) -> bool:
    """Store the next try, at a time or in so many seconds. False if the lease is lost.

    Raises TypeError or ValueError for a time that can't be.
    """
    at_a_time = isinstance(when, datetime)
    terms = {
        "eta": moment(when, "eta") if at_a_time else None,
        "countdown": timedelta() if at_a_time else seconds(_or_default(when), "countdown"),
        "counted": int(counted),
    }
    told = {"error": describe(error), "traceback": format_traceback(error)}
    return execute(statements.RETRY, {**lease.key, **terms, **told}) == 1


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
    why = {"error": describe(error), "traceback": format_traceback(error)}
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


def dispatch_link(lease: Lease, link: dict[str, Any], *head: Any) -> None:
    """Write a linked task as a job of its own. It belongs to its signature's tenant, or else to this job's."""
    signature = Signature.from_dict(link, app=current_app)
    schema = str(signature.options.get(OPTION, lease.schema))
    terms, call = outbox.Terms.of_link(signature), linked_call(signature, head)
    try:
        outbox.insert_many(terms, [call], schema=schema, codec=lease.codec)
    except TenantUnavailable:
        # Its tenant is gone, and so are that tenant's waiting jobs. This job ends all the same.
        logger.warning("Job %s links to %s of a tenant that is gone (%s)", lease.id, signature.task, schema)


def _or_default(when: Any) -> Any:
    return settings.JOB_FIRST_RESEND if when is None else when


def _dead_letter(statement: str, lease: Lease, error: BaseException, traceback: str) -> bool:
    told = {"error": describe(error), "traceback": traceback}
    limits = {**poison_limits(), "unknown_for": unknown_for()}
    with transaction.atomic():
        lock_tenant(lease)
        if execute(statement, {**lease.key, **limits, **told}) == 0:
            return False
        _dispatch_errbacks(lease)
        results.store(lease.schema, {**_result_row(lease, states.FAILURE, **told), **_failure(error)})
    return True


def _dispatch_errbacks(lease: Lease) -> None:
    if lease.link_error_text == "[]":
        return
    try:
        with transaction.atomic():
            for link in lease.link_error:
                dispatch_link(lease, link, lease.id)
    except Exception as error:
        if not is_refusal(error):
            raise
        # Somebody has changed the row, or their task is none of ours. The job is dead all the same.
        logger.exception("Job %s is dead, and its errbacks could not be dispatched", lease.id)


def _failure(error: BaseException) -> dict[str, Any]:
    with suppress(Exception):  # what the exception's own methods raise
        columns = results.encoded(encodable(error))
        if len(columns["result"]) <= MAX_TRACEBACK:
            return columns
    kind = type(error)
    return results.encoded(
        {"exc_type": kind.__qualname__, "exc_message": [describe(error)], "exc_module": kind.__module__}
    )


def _delete(statement: str, lease: Lease, *, state: str, reason: str) -> bool:
    with transaction.atomic():
        lock_tenant(lease)
        if execute(statement, lease.key) == 0:
            return False
        results.store(lease.schema, {**_result_row(lease, state), **results.encoded(reason)})
    return True


def _result_row(lease: Lease, state: str, *, error: str | None = None, traceback: str | None = None) -> dict[str, Any]:
    meta = {"children": [], "attempts": lease.attempt, "error": error}
    return {
        "task_id": lease.id,
        "task_name": lease.task,
        "task_args": results.encoded(_shown(lease, "args"))["result"],
        "task_kwargs": results.encoded(_shown(lease, "kwargs"))["result"],
        "status": state,
        "traceback": traceback,
        "meta": results.encoded(meta)["result"],
        "date_created": lease.created_at,
    }


def _shown(lease: Lease, name: str) -> str:
    try:
        return str(saferepr(getattr(lease, name), maxlen=MAX_SHOWN))
    except Exception:  # a text that somebody has changed
        text: str = getattr(lease, f"{name}_text")
        return text[:MAX_SHOWN]

"""One attempt at a durable job, in its order: claim, gate, body, completion; or one of the other endings."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry
from django.conf import settings
from django.db import DatabaseError, Error, InterfaceError, OperationalError, transaction
from psycopg.errors import UndefinedFunction

from jobs import claim, endings
from jobs.celery_hooks import soft_limits, user_code
from jobs.claim import Lease
from jobs.endings import LeaseLost
from tenants.binding import bind_to_public
from tenants.connection import connection, retry_on_broken_connection
from tenants.session import start_owner

logger = logging.getLogger(__name__)


class RunnableTask(Protocol):
    """What an attempt needs to know of its task."""

    name: str
    atomic: bool
    time_limit: float | None

    @property
    def request(self) -> Context: ...

    def run(self, *args: Any, **kwargs: Any) -> Any: ...


@dataclass(slots=True)
class Completion:
    """What an `atomic = False` task says when it completes."""

    result: Any = None


class HandedBack(Exception):
    """This attempt does not count, through no fault of the job: the gate is shut, or the database went away."""


def run(task: RunnableTask, request: Context) -> Any:
    """Run the job that `request` names. Raises what its body raised, once recorded; Ignore if nothing may run."""
    start_owner()
    limit = hard_limit(task, request.timelimit[0] if request.timelimit else None)
    lease = claim.claim(request.id, task=task.name, token=request.lease_token, hard_limit=limit, atomic=task.atomic)
    if lease is None:
        raise Ignore("It has ended, is not due, is running elsewhere, or its tenant is not active")
    request.update(args=lease.args, kwargs=lease.kwargs, retries=lease.retries, lease=lease)
    session = connection.connection
    connection.set_schema(lease.schema)
    try:
        return _run_atomic(task, lease) if task.atomic else _run_outside_transaction(task, lease)
    except BaseException as error:
        ending = HandedBack(str(error)) if _is_outage(error, session) else error
        start_owner()
        bind_to_public()
        recorded = _record(lease, ending)
        uncounted = isinstance(ending, HandedBack) or (isinstance(ending, Reject) and ending.requeue)
        if uncounted or (isinstance(error, Exception) and not recorded):
            # No hook follows: the job runs again, or has ended otherwise.
            raise Ignore(f"This attempt does not count: {error!r}") from error
        raise
    finally:
        connection.set_schema(lease.schema)


def hard_limit(task: RunnableTask, of_call: float | None) -> float:
    """Seconds after which the pool kills the body: the lease follows it."""
    limit: float = of_call or task.time_limit or settings.CELERY_TASK_TIME_LIMIT
    return limit


@contextmanager
def completing(lease: Lease) -> Iterator[Completion]:
    """One transaction of effects and completion, for a body that ran outside of one."""
    connection.set_schema(lease.schema)
    with _ending(lease) as completion:
        claim.begin_completion(lease)
        yield completion


def _run_atomic(task: RunnableTask, lease: Lease) -> Any:
    with _ending(lease) as completion:
        _pass_gate(lease)
        completion.result = _run_body(task, lease)
    if connection.in_transaction():
        raise RuntimeError("The body left a transaction open, so nothing of it was committed.")
    return completion.result


def _run_outside_transaction(task: RunnableTask, lease: Lease) -> Any:
    with transaction.atomic(durable=True):
        _pass_gate(lease)
    result = _run_body(task, lease)
    completed = task.request.get("completion")
    if completed is not None:
        return completed.result
    with completing(lease) as completion:
        completion.result = result
    return result


def _pass_gate(lease: Lease) -> None:
    if not claim.pass_gate(lease):
        raise HandedBack("its lease ran out, or its tenant is not active any more")
    if soft_limits.is_due():
        raise HandedBack("its soft time limit passed before its body began")


def _run_body(task: RunnableTask, lease: Lease) -> Any:
    return user_code.run_body(task, lease.id, lease.args, lease.kwargs)


@contextmanager
def _ending(lease: Lease) -> Iterator[Completion]:
    """A transaction whose COMMIT ends the job. Raises LeaseLost, and commits nothing, once the lease is lost."""
    completion, over = Completion(), False
    try:
        with transaction.atomic(durable=True):
            yield completion
            over = True
            endings.complete(lease, completion.result)
    except DatabaseError as error:
        if over and endings.is_lease_lost(error):
            raise LeaseLost(f"Job {lease.id} is not held by this worker any more") from error
        if over and isinstance(error.__cause__, UndefinedFunction):
            raise HandedBack("The database lacks a function of ours: the release step has not run") from error
        raise


def _record(lease: Lease, ending: BaseException) -> bool:
    """Record an ending other than completion; whether this is how the attempt ended.

    Fenced: after a COMMIT whose reply was lost it changes nothing.
    """
    try:
        held = retry_on_broken_connection(lambda: _settle(lease, ending))
    except Error:
        logger.exception("Could not record the end of job %s: its lease will run out", lease.id)
        return False
    if not held:
        logger.warning("Job %s had ended, or was held elsewhere, when this came", lease.id, exc_info=ending)
    return held


def _settle(lease: Lease, ending: BaseException) -> bool:
    match ending:
        case HandedBack():
            return endings.hand_back(lease.key, counted=False, delay=_backoff(lease.attempt))
        case Retry():
            return endings.retry(lease, ending.when, error=endings.describe(ending.exc or ending))
        case Reject(requeue=True):
            error = endings.describe(ending)
            return endings.retry(lease, settings.JOB_FIRST_RESEND, error=error, counted=False)
        case Ignore():
            return endings.ignore(lease, reason=str(ending))
        case Exception():
            return endings.dead_letter(lease, ending, traceback="".join(traceback.format_exception(ending)))
        case _:  # SystemExit and the like: this process is going down under the job
            return endings.hand_back(lease.key, counted=True)


def _backoff(attempt: int) -> float:
    """Seconds; none after the first attempt. It may be the body itself that takes the database down each time."""
    if attempt == 1:
        return 0
    return float(min(settings.JOB_FIRST_RESEND * 2 ** min(attempt - 2, 30), settings.JOB_MAX_RESEND))


def _is_outage(error: BaseException, session: Any) -> bool:
    """Whether the attempt ended because its database session was lost, and not because of what the body did."""
    if not isinstance(error, InterfaceError | OperationalError):
        return False
    # The body may have connected anew, or elsewhere, by now: so ask the session that the attempt began with.
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    return session.closed and (sqlstate is None or sqlstate.startswith(("08", "57P")))

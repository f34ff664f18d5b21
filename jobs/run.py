"""One attempt at a durable job, in its order: claim, gate, body, completion; or one of the other endings."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import psycopg
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry, TaskPredicate
from django.conf import settings
from django.db import DatabaseError, Error, transaction

from jobs import claim, endings
from jobs.celery_hooks import soft_limits, user_code
from jobs.celery_hooks.internals import GreenletExit
from jobs.claim import Lease
from jobs.endings import LeaseLost
from jobs.errors import describe, format_traceback, is_refusal, presentable
from jobs.transient import is_read_only, is_transient
from tenants.binding import bind_to_public
from tenants.connection import connection, retry_on_broken_connection, wait_for_database
from tenants.session import start_owner

logger = logging.getLogger(__name__)

# For how many errors of a transaction for reading only a standby may be to blame, which takes over
MAX_READ_ONLY = 2
# The tasks whose durable bodies run in this process, each once for each of them.
_running: "list[RunnableTask]" = []


class RunnableTask(Protocol):
    """What an attempt needs to know of its task."""

    name: str
    atomic: bool
    time_limit: float | None
    max_retries: Any
    MaxRetriesExceededError: type[Exception]

    @property
    def request(self) -> Context: ...

    def run(self, *args: Any, **kwargs: Any) -> Any: ...


@dataclass(slots=True)
class Completion:
    """What an `atomic = False` task says when it completes."""

    result: Any = None


class HandedBack(Exception):
    """This attempt does not count, through no fault of the job: the gate is shut, or our own function is missing."""


class Passing(HandedBack):
    """An error of the database ended the attempt, and may be over soon: see jobs/transient.py."""


class Snooze(Ignore):
    """A body puts its job off: what it wrote is rolled back, and it runs again after the delay."""

    def __init__(self, delay: timedelta, *, limited: bool = True) -> None:
        super().__init__(f"Snoozed for {delay}")
        self.delay = delay
        self.limited = limited


class TooManyTimes(Exception):
    """What ended the attempt may pass, and has not for too many attempts."""


class TooManySnoozes(Exception):
    """The body has put its job off for the last time."""


def run(task: RunnableTask, request: Context) -> Any:
    """Run the job that `request` names. Raises what its body raised, once recorded; Ignore if nothing may run."""
    start_owner()
    limit = hard_limit(task, request.timelimit[0] if request.timelimit else None)
    lease = claim.claim(request.id, task=task.name, token=request.lease_token, hard_limit=limit, atomic=task.atomic)
    if lease is None:
        raise Ignore("It has ended, is not due, is running elsewhere, or its tenant is not active")
    request.lease = lease
    session = connection.connection
    connection.set_schema(lease.schema)
    try:
        request.update(args=lease.args, kwargs=lease.kwargs, retries=lease.retries)
        return _run_atomic(task, request) if task.atomic else _run_outside_transaction(task, request)
    except BaseException as error:
        ending = _ending_of(error, task, request, session)
        start_owner()
        bind_to_public()
        recorded = _record(lease, ending)
        uncounted = isinstance(ending, HandedBack | Snooze) or (isinstance(ending, Reject) and ending.requeue)
        if uncounted or (isinstance(error, Exception) and not recorded):
            # No hook follows: the job runs again, or has ended otherwise.
            raise Ignore(f"This attempt does not count: {describe(error)}") from error
        raise presentable(ending) from ending.__cause__
    finally:
        connection.set_schema(lease.schema)


def hard_limit(task: RunnableTask, of_call: float | None) -> float:
    """Seconds after which the pool kills the body: the lease follows it."""
    limit: float = of_call or task.time_limit or settings.CELERY_TASK_TIME_LIMIT
    return limit


def is_running(task: RunnableTask) -> bool:
    """Whether a durable job of this task is under way in this process, in whichever thread."""
    return task in _running


def out_of_retries(task: RunnableTask, lease: Lease, *, limit: float | None, exc: Any) -> Exception | None:
    """What a job ends with that was tried so often: the reason for another try, if it has one. None below the limit."""
    if limit is None or lease.retries < limit:
        return None
    if isinstance(exc, Exception):
        return exc
    return task.MaxRetriesExceededError(f"{task.name} {lease.id} is out of retries ({limit})")


@contextmanager
def completing(request: Context) -> Iterator[Completion]:
    """One transaction of effects and completion, for a body that ran outside of one."""
    if connection.in_transaction():
        raise RuntimeError("self.completion() is a transaction of its own: end yours first, and leave autocommit on.")
    with passing_errors(request):
        # What the outside world has done must not be done again because the database is away for a while.
        wait_for_database(seconds=request.lease.hard_limit)
        with _ending(request.lease) as completion:
            claim.begin_completion(request.lease)
            yield completion


@contextmanager
def passing_errors(request: Context) -> Iterator[None]:
    """Where an error of the database may pass, in a body that runs outside of a transaction."""
    try:
        yield
    except (Error, psycopg.Error) as error:
        request.passing_error = error
        raise


def _run_atomic(task: RunnableTask, request: Context) -> Any:
    with _ending(request.lease) as completion:
        _pass_gate(request.lease)
        completion.result = _run_body(task, request)
    _end_open_transaction(request.lease)
    return completion.result


def _run_outside_transaction(task: RunnableTask, request: Context) -> Any:
    with transaction.atomic(durable=True):
        _pass_gate(request.lease)
    result = _run_body(task, request)
    completion = request.get("completion")
    if completion is None:
        if connection.in_transaction():
            raise RuntimeError("The body left a transaction open, so nothing of it was committed.")
        # What the body has set in its session is not for the job's end: a limit, a role, reading only.
        start_owner()
        connection.set_schema(request.lease.schema)
        with completing(request) as completion:
            completion.result = result
    _end_open_transaction(request.lease)
    return completion.result


def _end_open_transaction(lease: Lease) -> None:
    """That of an `on_commit` hook, or of what follows `self.completion()`: the job has ended as a success."""
    if connection.in_transaction():
        logger.warning("Job %s left a transaction open after its end, so nothing of that was committed", lease.id)
        start_owner()


def _pass_gate(lease: Lease) -> None:
    try:
        passed = claim.pass_gate(lease)
    except DatabaseError as error:
        _hand_back_if_not_released(error)
        raise
    if not passed:
        raise HandedBack("its lease ran out, or its tenant is not active any more")
    if soft_limits.is_due():
        # Counted: a limit that is too short for any body would let it wait for ever.
        raise Passing("Its soft time limit passed before its body began.")


def _run_body(task: RunnableTask, request: Context) -> Any:
    request.has_begun = True
    _running.append(task)
    try:
        return user_code.run_body(task, request.lease.id, request.lease.args, request.lease.kwargs)
    finally:
        _running.remove(task)


@contextmanager
def _ending(lease: Lease) -> Iterator[Completion]:
    """A transaction whose COMMIT ends the job. Raises LeaseLost, and commits nothing, once the lease is lost.

    What an `on_commit` hook raises changes nothing of that end, so it is logged.
    """
    completion, over = Completion(), False
    committed: list[bool] = []
    try:
        with transaction.atomic(durable=True):
            transaction.on_commit(partial(committed.append, True))  # before those of the body
            yield completion
            over = True
            endings.complete(lease, completion.result)
    except BaseException as error:
        if committed and not user_code.ends_its_process(error):
            logger.exception("An on_commit hook of job %s raised; the job's outcome stays as it is", lease.id)
            return
        if over and isinstance(error, DatabaseError):
            if endings.is_lease_lost(error):
                raise LeaseLost(f"Job {lease.id} is not held by this worker any more") from error
            _hand_back_if_not_released(error)
        if not isinstance(error, Exception | SystemExit | GreenletExit):  # of a result's own methods
            raise RuntimeError(f"The body's end raised {describe(error)}") from error
        raise


def _hand_back_if_not_released(error: DatabaseError) -> None:
    # Workers of a new release may start before its release step. It is no fault of the job, however long it takes.
    if endings.lacks_function_of_ours(error):
        raise HandedBack("The database lacks a function of ours: the release step has not run") from error


def _record(lease: Lease, ending: BaseException) -> bool:
    """Record an ending other than completion; whether this is how the attempt ended.

    Fenced: after a COMMIT whose reply was lost it changes nothing.
    """
    try:
        held = _settle_somehow(lease, ending)
    except Error:
        logger.exception("Could not record the end of job %s: its lease will run out", lease.id)
        return False
    if not held:
        logger.warning("Job %s had ended, or was held elsewhere, when this came: %s", lease.id, describe(ending))
    return held


def _settle_somehow(lease: Lease, ending: BaseException) -> bool:
    try:
        return retry_on_broken_connection(lambda: _settle(lease, ending))
    except Exception as error:
        if not is_refusal(error):
            raise
        refusal = error
    # A body raised what no row can keep: a Retry of its own making, at a time that can't be. It is dead, for that.
    return retry_on_broken_connection(lambda: _settle(lease, refusal))


def _settle(lease: Lease, ending: BaseException) -> bool:
    match ending:
        case HandedBack():
            cause = ending.__cause__ or ending
            transient = isinstance(ending, Passing)
            delay = _transient_backoff(lease.transients) if transient else _backoff(lease.attempt)
            return endings.hand_back(lease.key, error=cause, transient=transient, delay=delay)
        case Snooze():
            logger.info("Job %s runs again in %s: its body has put it off", lease.id, ending.delay)
            return endings.snooze(lease, ending.delay)
        case Retry():
            return endings.retry(lease, ending.when, error=ending.exc or ending)
        case Reject(requeue=True):
            return endings.retry(lease, settings.JOB_FIRST_RESEND, error=ending, counted=False)
        case Ignore():
            return endings.ignore(lease, reason=describe(ending))
        case Exception():
            return endings.dead_letter(lease, ending, traceback=format_traceback(ending))
        case _:  # SystemExit and the like: this process is going down under the job
            return endings.hand_back(lease.key, error=ending, killed=True)


def _ending_of(error: BaseException, task: RunnableTask, request: Context, session: Any) -> BaseException:
    lease: Lease = request.lease
    if isinstance(error, Snooze) and error.limited and lease.snoozes >= settings.JOB_MAX_SNOOZES:
        return TooManySnoozes(f"It was snoozed {lease.snoozes} times.")
    if isinstance(error, Retry) and error is not request.get("retry_within_limit"):
        beyond = _beyond_limit(error, task, lease)
        return error if beyond is None else beyond
    # Outside of a transaction, the body may have called the outside world. Only its author knows, and can say retry().
    called = not task.atomic and request.get("has_begun") and error is not request.get("passing_error")
    if lease.transients >= settings.JOB_MAX_TRANSIENT:
        return TooManyTimes(str(error)) if isinstance(error, Passing) else error
    if called or error is request.get("out_of_retries"):
        return error
    if task.atomic and session.was_closed and isinstance(error, Error):
        closed = RuntimeError("The body closed its database connection, so nothing of it was committed.")
        closed.__cause__ = error
        return closed
    # A server for reading only could not have noted those attempts, either: it is the body that wants no writes.
    if is_read_only(error) and lease.transients >= MAX_READ_ONLY:
        return error
    if is_transient(error, session):
        passing = Passing(str(error))
        passing.__cause__ = error
        return passing
    return error


def _beyond_limit(retry: Retry, task: RunnableTask, lease: Lease) -> Exception | None:
    """What a job ends with that raised a Retry of other making than its own `retry()`, at the limit of its task."""
    limit = task.max_retries
    if limit is not None and not isinstance(limit, int | float):
        return TypeError(f"max_retries of {task.name} is a number, or None for no limit.")
    reason = None if isinstance(retry.exc, TaskPredicate) else retry.exc
    ending = out_of_retries(task, lease, limit=limit, exc=reason)
    if ending is not None and ending is not reason:
        ending.__cause__ = retry
    return ending


def _backoff(attempt: int) -> float:
    """Seconds until a job that was handed back is sent again; none after the first attempt."""
    if attempt == 1:
        return 0
    return float(min(settings.JOB_FIRST_RESEND * 2 ** min(attempt - 2, 30), settings.JOB_MAX_RESEND))


def _transient_backoff(times: int) -> float:
    """Seconds, after so many passing errors: 1, 2, 4 and so on."""
    return float(min(2 ** min(times, 30), settings.JOB_MAX_RESEND))

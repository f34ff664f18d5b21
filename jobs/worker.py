"""What a worker's parent process does for its tasks: it knows each lease, and brings home what its children can't."""

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from billiard.process import active_children
from celery import states
from celery.app.task import Context
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from django.conf import settings
from django.db import Error, transaction
from django_tenants.utils import schema_context

from jobs import execution
from jobs import lease as leases
from jobs.app import HEADER, is_durable
from jobs.backends import home_of
from tenants.connection import connection

logger = logging.getLogger(__name__)

# A parent must not stall on a lock that its child's transaction still holds: it serves all other children.
PATIENCE = "2s"
# The soft limit of a call that shortens the hard one alone: as the default of 25 s to 30.
SOFT_SHARE = 5 / 6


class TenantRequest(Request):
    """A received message. That of a durable job gets a lease token here: so this process knows what its child claims.

    The token is new at each reception: the very same message can arrive twice.
    """

    time_limits: Sequence[float | None]  # hard, soft

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self._set_time_limits()
        if self.durable:
            self._request_dict["lease_token"] = str(uuid.uuid4())

    def _set_time_limits(self) -> None:
        hard, soft = self.time_limits
        # A lease follows the limit that is enforced, so `celery worker --time-limit` must not change it.
        hard = execution.hard_limit(self.task, hard) if self.durable else hard or self.task.time_limit
        soft = soft or self.task.soft_time_limit or settings.CELERY_TASK_SOFT_TIME_LIMIT
        if hard:
            # Celery starts the clock of the hard limit when the soft one is over: a shorter hard limit would not count.
            self.time_limits = (hard, soft if soft and soft < hard else hard * SOFT_SHARE)

    @property
    def durable(self) -> bool:
        return is_durable(self._request_dict)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if self.durable and not soft:
            if self._child_is_alive():
                self._bury(TimeLimitExceeded(timeout))
            else:
                self._hand_back()
        super().on_timeout(soft, timeout)

    def _child_is_alive(self) -> bool:
        # The pool may take some seconds to see that a child was killed, and the clock of its job runs on meanwhile.
        return self.worker_pid in {child.pid for child in active_children()}

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # as one that this process raised is, and not its child
            error = error.exc
        if isinstance(error, TimeLimitExceeded):
            return  # `on_timeout` follows: both would count a chord's part, and call the errbacks
        if self.durable and isinstance(error, WorkerLostError | SystemExit | Terminated):
            self._hand_back()
        super().on_failure(exc_info, send_failed_event, return_ok)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        # A worker that shuts down has waited long enough: the job goes on elsewhere, at once.
        if self.durable:
            self._hand_back()
        super().cancel(pool, signal, emit_retry)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """For `inspect`: with the schema, which tells operators whose task it is."""
        header = self._request_dict.get(HEADER)
        return {**super().info(safe), HEADER: header}

    def _retry_worker_lost(self, exc: Exception, exc_info: ExceptionInfo) -> bool:
        # Celery would publish the task anew; a durable job was handed back, and the relay sends it.
        return True if self.durable else super()._retry_worker_lost(exc, exc_info)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        if self.durable:
            self._revoke(reason)
        try:
            super()._announce_revoked(reason, terminated, signum, expired)
        except Error:
            # Raised to the consumer's loop, this would end the worker.
            logger.exception("Could not store that task %s was %s", self.id, reason)
            self.acknowledge()
            self._already_revoked = True

    def _success_was_stored(self) -> Any:
        with schema_context(home_of(self._context)):
            return super()._success_was_stored()

    def _hand_back(self) -> None:
        counted = not (self._already_cancelled or _shutting_down())
        key = {"id": self.id, "token": self._request_dict["lease_token"]}
        with _patient("hand back", self.id):
            leases.hand_back(key, counted=counted)

    def _bury(self, error: Exception) -> None:
        with _patient("bury", self.id):
            if lease := self._lease():
                leases.bury(lease, error=error)

    def _revoke(self, reason: str) -> None:
        with _patient("revoke", self.id):
            if lease := self._lease():
                leases.end(lease, state=states.REVOKED, reason=reason, where=leases.NOT_ELSEWHERE)

    def _lease(self) -> leases.Lease | None:
        return leases.find(self.id, task=self._type, token=self._request_dict["lease_token"])


class TenantConsumer(Consumer):
    """A consumer that refuses tasks without a tenant, and files an unregistered one with the tenant of its message."""

    def update_strategies(self) -> None:
        for task in self.app.tasks.values():
            self.app.refuse_foreign(task)
        super().update_strategies()
        if not isinstance(self.pool, PreforkPool):
            for name, task in self.app.tasks.items():
                if not task.atomic:
                    self.strategies[name] = self._refusing_jobs(self.strategies[name])

    def _refusing_jobs(self, strategy: Callable[..., None]) -> Callable[..., None]:
        """Leaves durable jobs to other workers: here nothing kills a body that hangs. Its lease would end under it, and
        it would run twice at a time, outside of any transaction.
        """

        def receive(message: Any, *args: Any, **options: Any) -> None:
            if not is_durable(message.headers):
                strategy(message, *args, **options)
                return
            reason = _limitless(type(self.pool).__module__.rpartition(".")[2], message.headers["task"])
            with _patient("put off", message.headers["id"]):
                leases.put_off(message.headers["id"], reason=reason)
            message.reject_log_error(logger, self.connection_errors)

        return receive

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        request = Context(message.headers)
        if is_durable(request):
            # Its row stays as it was: the relay sends it again, perhaps to a worker that knows the task.
            logger.error("No task %r here: durable job %s waits", message.headers["task"], message.headers["id"])
            message.reject_log_error(logger, self.connection_errors)
            return
        try:
            with schema_context(home_of(request)):
                super().on_unknown_task(body, message, exc)
        except Error:
            # Raised to the consumer's loop, this would end the worker.
            logger.exception("Could not store that no task %r is here", message.headers.get("task"))


@cache
def _limitless(pool: str, task: str) -> str:
    """Logged once for each task."""
    reason = (
        f"A worker's pool, {pool}, has no hard time limits, so it does not run {task}, which has atomic=False. "
        "Start a worker with the prefork pool."
    )
    logger.error("%s Its jobs wait.", reason)
    return reason


def _shutting_down() -> bool:
    # Celery's flags hold the exit code, which is 0 for a plain shutdown, and None or False as long as there is none.
    return any(flag is not None and flag is not False for flag in (state.should_stop, state.should_terminate))


@contextmanager
def _patient(deed: str, job_id: str) -> Iterator[None]:
    """A short transaction of the parent process. What fails in it is logged and left: the job's lease will run out."""
    try:
        if connection.connection is not None and not connection.is_usable():
            connection.close()
        with transaction.atomic():
            _set_time_outs()
            yield
    except Exception:
        logger.exception("Could not %s job %s: its lease will run out", deed, job_id)


def _set_time_outs() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', %(time)s, true), set_config('statement_timeout', %(time)s, true)",
            {"time": PATIENCE},
        )

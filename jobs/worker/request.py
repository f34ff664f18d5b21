"""What a worker's parent process does for its tasks: it knows their leases, and records what its children can't."""

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from billiard.process import active_children
from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.request import Request
from django.conf import settings
from django.db import Error
from django_tenants.utils import schema_context

from jobs import claim, endings
from jobs.message import HEADER, is_durable
from jobs.run import hard_limit
from jobs.schema import schema_of_result
from jobs.worker.parent import in_bounded_transaction
from jobs.worker.renewal import running

logger = logging.getLogger(__name__)

# The soft limit of a call that shortens the hard one alone: as the default of 25 s to 30.
SOFT_SHARE = 5 / 6


class WorkerStopped(Exception):
    """A deploy, say: its jobs go on elsewhere."""


class TenantRequest(Request):
    """A received message. That of a durable job gets a lease token here: so this process knows what its child claims.

    The token is new at each reception: the very same message can arrive twice.
    """

    time_limits: Sequence[float | None]  # hard, soft

    def __init__(self, message: Any, **options: Any) -> None:
        try:
            super().__init__(message, **options)
            self._set_time_limits()
        except Exception as error:
            # Nothing here asks a server, so the message is to blame. A KeyError would look like an outage.
            raise InvalidTaskError(f"{type(error).__name__}: {error}") from error
        if self.durable:
            self._request_dict["lease_token"] = str(uuid.uuid4())

    @property
    def lease_token(self) -> str:
        """What its child claims the job by."""
        token: str = self._request_dict["lease_token"]
        return token

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A child has begun: from now on its lease is renewed."""
        if self.durable:
            running[self.lease_token] = self
        super().on_accepted(pid, time_accepted)

    def _set_time_limits(self) -> None:
        hard, soft = self.time_limits
        # A lease follows the limit that is enforced, so `celery worker --time-limit` must not change it.
        hard = hard_limit(self.task, hard) if self.durable else hard or self.task.time_limit
        soft = soft or self.task.soft_time_limit or settings.CELERY_TASK_SOFT_TIME_LIMIT
        if hard:
            # Celery starts the clock of the hard limit when the soft one is over: a shorter hard limit would not count.
            self.time_limits = (hard, soft if soft and soft < hard else hard * SOFT_SHARE)

    @property
    def durable(self) -> bool:
        """Whether this is the message of a durable job."""
        return is_durable(self._request_dict)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A time limit was reached: the hard one is the death of a durable job that runs."""
        if not self.durable or soft or self._dies_of(timeout):
            super().on_timeout(soft, timeout)
        else:
            # Celery would say that it failed.
            logger.warning("The time limit of job %s, %s s, changes nothing of its outcome", self.id, timeout)
            state.task_ready(self)
            self.acknowledge()

    def _dies_of(self, timeout: float) -> bool:
        """False if the job goes on elsewhere, since its child is gone or its lease lost, or has ended: its child was in
        a hook."""
        if self._child_is_alive():
            return self._dead_letter(TimeLimitExceeded(timeout))
        self._hand_back()
        return False

    def _child_is_alive(self) -> bool:
        # The pool may take some seconds to see that a child was killed, and the clock of its job runs on meanwhile.
        return self.worker_pid in {child.pid for child in active_children()}

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """A task failed, or its child was lost: then a durable job is handed back."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # an error that this process raised comes wrapped
            error = error.exc
        if isinstance(error, TimeLimitExceeded):
            return  # `on_timeout` follows: both would count a chord's part, and call the errbacks
        if self.durable and isinstance(error, WorkerLostError | SystemExit | Terminated):
            self._hand_back()
        if isinstance(error, MemoryError):
            # Celery raises it here, in the worker's own process, whose memory is not what ran out.
            exc_info.exception = RuntimeError(repr(error))
        super().on_failure(exc_info, send_failed_event, return_ok)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """The worker shuts down under the task."""
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
        with schema_context(schema_of_result(self._context)):
            return super()._success_was_stored()

    def _hand_back(self) -> None:
        stopping = self._already_cancelled or _shutting_down()
        error = WorkerStopped("Its worker stopped.") if stopping else WorkerLostError("Its process was killed.")
        key = {"id": self.id, "token": self.lease_token}
        self._in_transaction("hand back", lambda: endings.hand_back(key, error=error, killed=not stopping))

    def _dead_letter(self, error: Exception) -> bool:
        return self._in_transaction(
            "dead-letter", lambda: (lease := self._lease()) and endings.dead_letter(lease, error)
        )

    def _revoke(self, reason: str) -> None:
        self._in_transaction("revoke", lambda: (lease := self._lease()) and endings.revoke(lease, reason=reason))

    def _in_transaction(self, action: str, deed: Callable[[], object]) -> bool:
        return in_bounded_transaction(deed, action=action, job_id=self.id)

    def _lease(self) -> claim.Lease | None:
        return claim.find(self.id, task=self._type, token=self.lease_token)


def _shutting_down() -> bool:
    # Celery's flags hold the exit code, which is 0 for a plain shutdown, and None or False as long as there is none.
    return any(flag is not None and flag is not False for flag in (state.should_stop, state.should_terminate))

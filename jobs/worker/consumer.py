"""What a worker does with a message before it becomes a request."""

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.signals import task_rejected
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from django_tenants.utils import schema_context
from kombu.utils.encoding import safe_repr

from jobs import endings
from jobs.celery_hooks.broker import explain_wrong_keys
from jobs.message import is_durable
from jobs.schema import schema_of_result
from jobs.servers import SHORT, outages
from jobs.worker.parent import in_bounded_transaction
from jobs.worker.sense import Malformed, check

logger = logging.getLogger(__name__)


#: Seconds until the next try to connect to a broker that answers, but refuses (it is read-only, full or loading, or a
#: key is of a wrong type): at first, and at the most. Meanwhile nobody kills children that pass their hard time limits,
#: so the longest is a part of JOB_LEASE_MARGIN.
FIRST_PAUSE = 1.0
MAX_PAUSE = 5.0
#: Seconds between two looks whether the worker is to shut down
SLICE = 0.1


class TenantConsumer(Consumer):
    """A consumer that refuses tasks without a tenant, and files an unregistered one with the tenant of its message.

    What it can make no sense of, it drops. An error of the broker or the database is none of the message's.
    """

    _pause = FIRST_PAUSE
    _refused_at = float("-inf")

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """What is called with each message."""
        receive = super().create_task_handler(*args, **options)

        def receive_sense(message: Any) -> None:
            try:
                check(message)
            except Malformed as error:
                self._drop(message, error)
            else:
                receive(message)

        return receive_sense

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body that can't be read."""
        self._drop(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A message of which no request can be made."""
        self._drop(message, exc)

    def _drop(self, message: Any, error: Exception) -> None:
        headers = safe_repr(message.headers)[:500]
        logger.error("Dropped a message that makes no sense (%s). Its headers: %s", error, headers)
        message.reject_log_error(logger, self.connection_errors)
        task_rejected.send(sender=self, message=message, exc=error)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """The broker refuses what a connection begins with."""
        super().on_connection_error_before_connected(exc)
        self._pause_if_refused(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The broker went away, or refuses: to connect anew would be refused at once."""
        super().on_connection_error_after_connected(exc)
        self._pause_if_refused(exc)

    def _pause_if_refused(self, exc: Exception) -> None:
        """Wait, longer each time, until a connection has lasted for a while; a shutdown ends that."""
        if not isinstance(exc, self.channel_errors):
            return
        has_lasted = time.monotonic() - self._refused_at > MAX_PAUSE
        self._pause = FIRST_PAUSE if has_lasted else min(2 * self._pause, MAX_PAUSE)
        logger.error("The broker refuses; the next try is in %g s. %s", self._pause, _explain(self.app))
        end = time.monotonic() + self._pause
        while time.monotonic() < end:
            maybe_shutdown()
            time.sleep(SLICE)
        self._refused_at = end

    def update_strategies(self) -> None:
        """Refuse foreign tasks, and durable jobs that this pool can't kill."""
        for task in self.app.tasks.values():
            self.app.refuse_foreign(task)
        super().update_strategies()
        if not isinstance(self.pool, PreforkPool):
            for name, task in self.app.tasks.items():
                if not task.atomic:
                    self.strategies[name] = self._deferring_jobs(self.strategies[name])

    def _deferring_jobs(self, strategy: Callable[..., None]) -> Callable[..., None]:
        """Leaves durable jobs to other workers: here nothing kills a body that hangs. Its lease would end under it, and
        it would run twice at a time, outside of any transaction.
        """

        def receive(message: Any, *args: Any, **options: Any) -> None:
            if not is_durable(message.headers):
                strategy(message, *args, **options)
                return
            reason = _explain_deferral(type(self.pool).__module__.rpartition(".")[2], message.headers["task"])
            job_id = message.headers["id"]
            in_bounded_transaction(lambda: endings.defer(job_id, reason=reason), action="defer", job_id=job_id)
            message.reject_log_error(logger, self.connection_errors)

        return receive

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """File the failure with the tenant of the message; a durable job goes back to its row."""
        request = Context(message.headers)
        if is_durable(request):
            # The relay sends it again, perhaps to a worker that knows the task.
            task, job_id = message.headers["task"], message.headers["id"]
            logger.error("No task %r here: durable job %s waits", task, job_id)
            reason = f"A worker did not know the task {task}."
            in_bounded_transaction(
                lambda: endings.mark_unknown(job_id, reason=reason), action="mark as unknown", job_id=job_id
            )
            message.reject_log_error(logger, self.connection_errors)
            return
        try:
            with schema_context(schema_of_result(request)):
                super().on_unknown_task(body, message, exc)
        except Exception:
            # Raised to the consumer's loop, this would end the worker.
            logger.exception("Could not store that no task %r is here", message.headers.get("task"))


@cache
def _explain_deferral(pool: str, task: str) -> str:
    """Why a task's jobs wait. It is logged once for each task."""
    reason = (
        f"A worker's pool, {pool}, has no hard time limits, so it does not run {task}, which has atomic=False. "
        "Start a worker with the prefork pool."
    )
    logger.error("%s Its jobs wait.", reason)
    return reason


def _explain(app: Celery) -> str:
    """What is known of a broker's refusal beside its own words."""
    with app.connection_for_read(transport_options=SHORT) as broker:
        try:
            return explain_wrong_keys(broker.default_channel, app.amqp.queues.values())
        except outages(broker):
            return ""

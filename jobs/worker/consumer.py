"""What a worker does with a message before it becomes a request."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from celery.app.task import Context
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.worker.consumer import Consumer
from django.db import Error
from django_tenants.utils import schema_context

from jobs import endings
from jobs.message import is_durable
from jobs.schema import schema_of_result
from jobs.worker.parent import bounded_transaction

logger = logging.getLogger(__name__)


class TenantConsumer(Consumer):
    """A consumer that refuses tasks without a tenant, and files an unregistered one with the tenant of its message."""

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
            with bounded_transaction("defer", message.headers["id"]):
                endings.defer(message.headers["id"], reason=reason)
            message.reject_log_error(logger, self.connection_errors)

        return receive

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """File the failure with the tenant of the message; a durable job goes back to its row."""
        request = Context(message.headers)
        if is_durable(request):
            # The relay sends it again, perhaps to a worker that knows the task.
            task, job_id = message.headers["task"], message.headers["id"]
            logger.error("No task %r here: durable job %s waits", task, job_id)
            with bounded_transaction("mark", job_id):
                endings.mark_unknown(job_id, reason=f"A worker did not know the task {task}.")
            message.reject_log_error(logger, self.connection_errors)
            return
        try:
            with schema_context(schema_of_result(request)):
                super().on_unknown_task(body, message, exc)
        except Error:
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

"""A worker's main process: it renews leases, and when it shuts down it waits for its running tasks and no longer."""

import select
import time
from typing import Any

from celery.apps.worker import Worker
from celery.worker import state

from jobs.celery_hooks.internals import result_pipes
from jobs.worker.renewal import start_renewal

#: Seconds between two looks at what still runs
PAUSE = 0.05


class TenantWorker(Worker):
    """Celery's worker, with both."""

    def on_consumer_ready(self, consumer: Any) -> None:
        """The pool has forked its children, and work comes in."""
        super().on_consumer_ready(consumer)
        start_renewal(self.pool)

    def wait_for_soft_shutdown(self) -> None:
        """Wait until all running tasks have ended, or for WORKER_SHUTDOWN_SECONDS. Celery's waits for all of those."""
        deadline = time.monotonic() + self.app.conf.worker_soft_shutdown_timeout
        while self._has_running_tasks() and time.monotonic() < deadline:
            time.sleep(PAUSE)

    def _has_running_tasks(self) -> bool:
        # In a prefork pool nobody reads results meanwhile: a child that has sent one is done, and so is one that died.
        pipes = result_pipes(self.pool)
        return any(not _has_data(pipes.get(request.worker_pid)) for request in tuple(state.active_requests))


def _has_data(pipe: Any) -> bool:
    return pipe is not None and bool(select.select([pipe], [], [], 0)[0])

"""A worker's main process: it leaves heartbeats, renews leases, and waits for running tasks when it shuts down."""

import logging
import signal
import time
from typing import Any

from celery.apps import worker as celery_worker
from celery.apps.worker import Worker
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.platforms import signals
from celery.worker import state

from jobs.celery_hooks.internals import children_at_work, runs_in_a_childs_process
from jobs.worker.last_resort import end_in_time

logger = logging.getLogger(__name__)

#: Seconds between two looks at what still runs
PAUSE = 0.05


# Celery's handlers of SIGTERM are chosen by now. A shutdown begins by setting another one, which cancels running tasks,
# and a SIGTERM that is repeated in that moment would meet it. So SIGTERM keeps TenantWorker's.
celery_worker.REMAP_SIGTERM = None


class TenantWorker(Worker):
    """Celery's worker, with all of that."""

    _is_stopping = False

    def prepare_args(self, **options: Any) -> dict[str, Any]:
        """Without remote control, nothing that other workers say by the broker is heard either, as whom to revoke."""
        options = super().prepare_args(**options)
        if not self.app.conf.worker_enable_remote_control:
            options |= {"without_mingle": True, "without_gossip": True}
        return options

    def install_platform_tweaks(self, worker: Any) -> None:
        """With Celery's handlers of signals. SIGTERM's runs once.

        A platform that sends it to all processes and a supervisor that passes it on make two of one.
        """
        super().install_platform_tweaks(worker)
        stop: Any = signal.getsignal(signal.SIGTERM)

        def stop_once(*args: Any) -> None:
            if not self._is_stopping and not runs_in_a_childs_process():
                self._is_stopping = True
                stop(*args)

        signals["SIGTERM"] = stop_once

    def on_consumer_ready(self, consumer: Any) -> None:
        """The pool has forked its children, and work comes in."""
        # Celery loads this module before Django's apps.
        from jobs.worker import heartbeat, renewal

        super().on_consumer_ready(consumer)
        heartbeat.start()
        renewal.start(self.pool)

    def wait_for_soft_shutdown(self) -> None:
        """Wait until all running tasks have ended, or for WORKER_SHUTDOWN_SECONDS. Celery's waits for all of those.

        A SIGTERM that is repeated meanwhile hurries nobody; SIGINT and SIGQUIT do. Whatever hangs afterwards, such as a
        pool that has lost a child, the process ends.
        """
        end_in_time(self)
        self._is_stopping = True
        seconds = self.app.conf.worker_soft_shutdown_timeout
        logger.info("Waiting for running tasks, up to %g s", seconds)
        deadline = time.monotonic() + seconds
        while self._has_running_tasks() and time.monotonic() < deadline:
            time.sleep(PAUSE)

    def _has_running_tasks(self) -> bool:
        requests = tuple(state.active_requests)
        if not (requests and isinstance(self.pool, PreforkPool)):
            return bool(requests)
        # Nobody reads results meanwhile, or sees deaths: so a request stays active though its child is done, or gone.
        at_work = children_at_work(self.pool)
        return any(request.worker_pid in at_work for request in requests)

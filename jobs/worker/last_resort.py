"""A worker that is to end ends in time."""

import faulthandler
import logging
from typing import Any

from celery import bootsteps

logger = logging.getLogger(__name__)

STDERR = 2
#: Seconds beyond those that running tasks get at a shutdown.
MARGIN = 5


class EndInTime(bootsteps.StartStopStep):
    """Ends the process if it hangs after an error of its main loop.

    Celery then waits for its pool. The pool may wait for a loop that does not run any more.
    """

    def close(self, worker: Any) -> None:
        """The worker begins to stop; after an error it has an exit code by now."""
        if worker.exitcode:
            logger.critical("The worker ends with code %s, soon", worker.exitcode)
            end_in_time(worker)


def end_in_time(worker: Any) -> None:
    """End the process if it still runs some seconds after its tasks had their time."""
    # A thread of C's: it needs nothing of an interpreter that hangs. The pool's children die with this process.
    # Celery's own stderr is a logger.
    seconds = worker.app.conf.worker_soft_shutdown_timeout + MARGIN
    faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)


def install(sender: Any, **kwargs: Any) -> None:
    """For a worker that starts."""
    sender.app.steps["worker"].add(EndInTime)

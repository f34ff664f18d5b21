"""Beat: each run of a schedule is a durable job."""

import logging
import time
from typing import Any

from django.conf import settings
from django.db import transaction
from django_celery_beat.models import PeriodicTask

from jobs import heartbeats, schedules
from jobs.celery_hooks.scheduler import StoredEntry, StoredScheduler
from jobs.models import Heartbeat
from tenants.connection import connection

logger = logging.getLogger(__name__)


class Schedule(StoredEntry):
    """A schedule as it was read, and what its runs are."""

    run: schedules.Run

    def call_of(self, model: PeriodicTask) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of each run. Raises NotSchedulable for a schedule that can't be run."""
        self.run = schedules.run_of(model)
        return self.run.args, self.run.kwargs


class TenantScheduler(StoredScheduler):
    """Dispatches a run that is due, and notes it, in one transaction: a beat that is killed neither loses a run nor
    doubles one, and two beats at once dispatch it once. The broker is not asked.
    """

    Entry = Schedule
    _next_heartbeat = 0.0

    def after_tick(self) -> None:
        """Leave a heartbeat every HEARTBEAT_SECONDS."""
        if time.monotonic() >= self._next_heartbeat:
            heartbeats.record(connection, Heartbeat.Kind.BEAT)
            self._next_heartbeat = time.monotonic() + settings.HEARTBEAT_SECONDS

    def apply_entry(self, entry: Schedule, producer: None = None) -> None:
        """Dispatch the run that is due, unless another beat has."""
        is_new = False
        with transaction.atomic():
            is_taken = entry.take()
            if is_taken:
                is_new = schedules.dispatch(entry.run)
        if not is_taken:
            self.start_over()
        elif is_new:
            logger.info("Dispatched %s (%s)", entry.name, entry.task)
        else:
            logger.info("%s (%s) is due; an earlier run still waits, and stands for both", entry.name, entry.task)

"""Beat's scheduler."""

import logging
import time
from typing import Any

from django.conf import settings
from django.db import Error
from django_celery_beat.schedulers import DatabaseScheduler

from tenants.binding import bind_to_public
from tenants.connection import connection
from tenants.role import verify_role

logger = logging.getLogger(__name__)


class TenantScheduler(DatabaseScheduler):
    """django-celery-beat's: the schedule is in `public`, and what it calls belongs there.

    It looks at the database before Celery sends a signal, so that is bound here, and the role verified. Beat makes one
    for its banner first, which reads nothing, and which waits before beat has its handler of SIGTERM: that one makes a
    scheduler, too, to save its schedule, and would wait as well.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        bind_to_public()
        verify_role()
        self._next_heartbeat = 0.0
        super().__init__(*args, **options)

    def tick(self, *args: Any, **options: Any) -> float:
        """As django-celery-beat's, with a heartbeat; for how many seconds beat may sleep."""
        pause: float = super().tick(*args, **options)
        if time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + settings.HEARTBEAT_SECONDS
            self._record_heartbeat()
        return min(pause, float(settings.HEARTBEAT_SECONDS))

    def _record_heartbeat(self) -> None:
        # Celery loads this before Django's apps.
        from jobs import heartbeats
        from jobs.models import Heartbeat

        try:
            heartbeats.record(connection, Heartbeat.Kind.BEAT)
        except Error as error:
            logger.warning("No heartbeat: %r", error)
            connection.close()

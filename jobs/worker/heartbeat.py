"""The worker's heartbeat, from a thread of its main process."""

import logging
import threading
from typing import Any

from django.conf import settings
from django.db import Error

from jobs import heartbeats
from jobs.models import Heartbeat
from tenants.binding import bind_to_public
from tenants.connection import connection as own_connection

logger = logging.getLogger(__name__)


def record(connection: Any) -> None:
    """Leave the sign of life of this worker on a connection, Django's or psycopg's. Raises the database's errors."""
    heartbeats.record(connection, Heartbeat.Kind.WORKER)


class HeartbeatThread(threading.Thread):
    """Records a heartbeat every HEARTBEAT_SECONDS, for as long as the process lives."""

    def __init__(self) -> None:
        super().__init__(name="heartbeat", daemon=True)

    def run(self) -> None:
        """As Thread's."""
        bind_to_public()
        pause = threading.Event()  # which nobody sets
        while True:
            self._record()
            pause.wait(settings.HEARTBEAT_SECONDS)

    def _record(self) -> None:
        try:
            record(own_connection)
        except Error as error:
            logger.warning("No heartbeat: %r", error)
        finally:
            # Between two heartbeats it takes no session, and a child that is forked meanwhile inherits none.
            own_connection.close()


def start() -> None:
    """For a worker that is ready."""
    HeartbeatThread().start()

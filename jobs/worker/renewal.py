"""A worker's parent process renews the leases of its running jobs, so that they may be short.

By a thread: a worker that shuts down sleeps in its main thread, while its children finish their jobs.
"""

import logging
import threading
import time
from typing import Any
from weakref import WeakValueDictionary

from celery.concurrency.prefork import TaskPool as PreforkPool
from django.conf import settings
from django.db import Error

from jobs import claim
from tenants.binding import bind_to_public
from tenants.connection import connection

logger = logging.getLogger(__name__)

#: Seconds that the database may take for an answer
PATIENCE = 2.0
#: Seconds between two tries while the database is away
PAUSE = 0.5

#: The requests of running durable jobs, by the tokens of their leases. One that is over leaves by itself.
running: WeakValueDictionary[str, Any] = WeakValueDictionary()


def start(pool: Any) -> None:
    """For a worker that is ready. The thread lives as long as the process, and longer than the pool."""
    if isinstance(pool, PreforkPool):
        threading.Thread(target=_renew_for_ever, name="renewal", daemon=True).start()


def renew_all() -> None:
    """Renew the leases of all running jobs."""
    requests = [request for request in (reference() for reference in running.valuerefs()) if request is not None]
    if not requests:
        return
    connection.ensure_connection()
    connection.connection.patience = PATIENCE
    claim.renew({request.lease_token: request.id for request in requests})


def _renew_for_ever() -> None:
    bind_to_public()
    while True:
        time.sleep(_renew_or_fail())


def _renew_or_fail() -> float:
    try:
        renew_all()
    except Error as error:
        logger.warning("Could not renew the leases of running jobs: %s", error)
        connection.close()
        return PAUSE
    return float(settings.JOB_RENEWAL_INTERVAL)

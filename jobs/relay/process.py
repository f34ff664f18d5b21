"""The relay: the one publisher of durable jobs. It moves what is due from the outbox to the broker, in fair order."""

import faulthandler
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from django.conf import settings
from django.db import Error
from django.db.backends.signals import connection_created

from jobs.relay.line import BATCH, mark, wake
from jobs.relay.maintenance import record_heartbeat, run_maintenance
from jobs.relay.publisher import Publisher
from tenants.connection import connection
from tenants.postgresql.base import DatabaseWrapper

logger = logging.getLogger(__name__)

#: Seconds between two looks of the watch that ends a relay which hangs.
WATCH_INTERVAL = 1.0
#: Seconds; the longest pause while database or broker is away.
MAX_PAUSE = 5.0

# The table fills and empties faster than its statistics follow, so plans that suit a small table are ruled out. The
# plans that are left look expensive to PostgreSQL, and to compile them takes longer than to run them.
BY_INDEX = "SET enable_seqscan = off; SET enable_sort = off; SET jit = off"


class Stops(Protocol):
    """The queue that a stop is put into. `get` raises queue.Empty after `timeout` seconds without one."""

    def put(self, item: None) -> None: ...

    def get(self, *, timeout: float) -> None: ...


class Relay:
    """Moves due jobs from the outbox to the broker. Many may run at once; one is enough.

    Intervals are in seconds. `stops` is what `stop()` puts into, and `run` waits for.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        maintenance_interval: float = 1.0,
        heartbeat_interval: float = 5.0,
        stops: Stops | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.publisher = publisher
        # A queue, since its put() is reentrant: an Event deadlocks if the signal comes while its lock is held.
        self._stops: Stops = SimpleQueue() if stops is None else stops
        self._wake_timer = Timer(settings.RELAY_IDLE_POLL)
        self._maintenance_timer = Timer(maintenance_interval)
        self._heartbeat_timer = Timer(heartbeat_interval)

    def run(self) -> None:
        """Relay until `stop()` is called. Backs off while database or broker is away; nothing is lost meanwhile.

        Ends the process if it hangs for RELAY_STALL_SECONDS, for whoever supervises it to start another one.
        """
        pause = 0.0
        watch = Timer(min(WATCH_INTERVAL, settings.RELAY_STALL_SECONDS / 2))
        while not self._stopped(pause):
            if watch.rings():
                # A server that is cut off behind a proxy that lives on never answers, not even with a time-out.
                faulthandler.dump_traceback_later(settings.RELAY_STALL_SECONDS, exit=True)
            try:
                # It is also busy while workers drain the queue, which could run dry while this sleeps.
                busy = self.tick() or self.publisher.drained
                pause = settings.RELAY_BUSY_POLL if busy else settings.RELAY_IDLE_POLL
            except Exception as error:  # nobody else publishes: whatever it is, the relay goes on
                pause = min(max(2 * pause, settings.RELAY_IDLE_POLL), MAX_PAUSE)
                outage = isinstance(error, (Error, *self.publisher.outages))
                logger.warning("The relay pauses for %.1f s: %r", pause, error, exc_info=not outage)
                self._disconnect()
        faulthandler.cancel_dump_traceback_later()
        self._disconnect()

    def stop(self) -> None:
        """Let `run` end after the tick that it is in; for signal handlers and other threads."""
        self._stops.put(None)

    def tick(self) -> int:
        """One look at outbox and broker; how many jobs were sent."""
        if self._maintenance_timer.rings():
            run_maintenance()
        if self._heartbeat_timer.rings():
            record_heartbeat(self.name)
        woken = self._wake()
        room = self.publisher.room()
        due = mark(room) if room else []
        if due:
            self.publisher.publish(due)
        return len(due) + woken

    def drain(self) -> int:
        """Send everything that is due, however long that makes the queue; how many jobs."""
        self.publisher.connect()
        run_maintenance()
        while wake():
            pass
        sent = 0
        while due := mark(BATCH):
            self.publisher.publish(due)
            sent += len(due)
        return sent

    def _wake(self) -> int:
        # A busy relay looks at the line more often than this: what is woken has waited for its time anyway.
        if not self._wake_timer.rings():
            return 0
        woken = wake()
        if woken == BATCH:
            self._wake_timer.ring_at_once()
        return woken

    def _stopped(self, pause: float) -> bool:
        try:
            self._stops.get(timeout=pause)
        except Empty:
            return False
        return True

    def _disconnect(self) -> None:
        self.publisher.close()
        connection.close()


class Timer:
    """Rings at once, and then when `interval` seconds have passed since it rang."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = 0.0

    def rings(self) -> bool:
        """Whether it is time; if so, the next interval begins."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval
        return True

    def ring_at_once(self) -> None:
        """Let it ring at the next question."""
        self._next = 0.0


@contextmanager
def planning_by_index() -> Iterator[None]:
    """In each database session that this process opens meanwhile: see BY_INDEX. None is a pooler's."""
    connection.close()
    connection_created.connect(_plan_by_index)
    try:
        with connection.direct():
            yield
    finally:
        connection_created.disconnect(_plan_by_index)
        connection.close()


def _plan_by_index(connection: Any, **kwargs: Any) -> None:
    if isinstance(connection, DatabaseWrapper):
        with connection.shared_cursor() as cursor:
            cursor.execute(BY_INDEX)

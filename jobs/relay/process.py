"""The relay: the one publisher of durable jobs. It moves what is due from the outbox to the broker, in fair order."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.db import Error
from django.db.backends.signals import connection_created

from jobs import heartbeats
from jobs.errors import describe
from jobs.models import Heartbeat
from jobs.relay.line import BATCH, View, mark, wake
from jobs.relay.listener import Listener
from jobs.relay.loop import Loop, Stops, Timer, beside
from jobs.relay.maintenance import Maintenance, run_maintenance
from jobs.relay.publisher import Publisher
from jobs.relay.watchdog import Watchdog
from tenants.connection import connection
from tenants.postgresql.base import DatabaseWrapper

logger = logging.getLogger(__name__)

#: Seconds that a relay which has nothing more to do goes on to look as a busy one. A job that is dispatched meanwhile
#: waits for its next look, so this is short: a few looks.
LINGER = 0.03
#: Seconds between two looks at a queue that was full
FULL_POLL = 0.1
#: Rows that a tick wakes at once, so that publishing does not wait for it
WOKEN = 200

# The table fills and empties faster than its statistics follow, so plans that suit a small table are ruled out. The
# plans that are left look expensive to PostgreSQL, and to compile them takes longer than to run them.
BY_INDEX = "SET enable_seqscan = off; SET enable_sort = off; SET enable_incremental_sort = off; SET jit = off"


class Relay:
    """Moves due jobs from the outbox to the broker, and maintains the outbox beside it. Many may run at once; one is
    enough.

    Intervals are in seconds. `stops` is what `stop()` puts into, and `run` waits for.
    """

    def __init__(
        self, publisher: Publisher, *, heartbeat_interval: float | None = None, stops: Stops | None = None
    ) -> None:
        self.publisher = publisher
        self._listener = Listener()
        self._view = View()
        self._is_full = False
        self._fault = ""
        self._busy_at = -LINGER
        self._loop = Loop("publishing", self._look, recover=self._recover, stops=stops or self._listener)
        self._wake_timer = Timer(settings.RELAY_IDLE_POLL)
        self._heartbeat_timer = Timer(settings.HEARTBEAT_SECONDS if heartbeat_interval is None else heartbeat_interval)

    def run(self) -> None:
        """Relay until `stop()` is called. Backs off while database or broker is away; nothing is lost meanwhile.

        Ends the process if publishing or maintenance hangs for RELAY_STALL_SECONDS, for whoever supervises it to start
        another one.
        """
        watchdog = Watchdog(settings.RELAY_STALL_SECONDS)
        maintenance = Loop("maintenance", Maintenance().run_impatiently, recover=_recover_maintenance)
        with beside(maintenance, watchdog):
            self._loop.run(watchdog)
        self._disconnect()

    def stop(self) -> None:
        """Let `run` end after the tick that it is in; for signal handlers and other threads."""
        self._loop.stop()

    def tick(self) -> int:
        """One look at outbox and broker; how many jobs were sent."""
        woken = self._wake()
        room = self.publisher.room()
        self._is_full = room == 0
        due = mark(room, self._view) if room else []
        if due:
            self.publisher.publish(due)
        if self._heartbeat_timer.rings():
            fault = self._tell_of(self.publisher.find_wrong_keys())
            heartbeats.record(connection, Heartbeat.Kind.RELAY, error=fault)
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

    def _look(self) -> float:
        # It is also busy while workers drain the queue, which could run dry while this sleeps.
        is_busy = bool(self.tick() or self.publisher.drained)
        now = time.monotonic()
        if is_busy:
            self._busy_at = now
        # It stays so for a moment: who dispatched meanwhile saw no need to wake it, and may commit now.
        is_busy = is_busy or now - self._busy_at < LINGER
        # While there is no room, it has to wake up for no dispatch.
        if self._listener.tell(is_busy=is_busy or self._is_full):
            return 0.0
        if is_busy:
            return float(settings.RELAY_BUSY_POLL)
        return float(min(settings.RELAY_IDLE_POLL, FULL_POLL) if self._is_full else settings.RELAY_IDLE_POLL)

    def _wake(self) -> int:
        # A busy relay looks at the line more often than this: what is woken has waited for its time anyway.
        if not self._wake_timer.rings():
            return 0
        woken = wake(self._view, batch=WOKEN)
        if woken >= WOKEN:
            self._wake_timer.ring_at_once()
        return woken

    def _recover(self, error: Exception, pause: float) -> None:
        outage = isinstance(error, (Error, *self.publisher.outages))
        logger.warning("The relay pauses for %.1f s: %r", pause, error, exc_info=not outage)
        if not isinstance(error, Error):
            fault = self._tell_of(self.publisher.explain(error)) or describe(error)
            with suppress(Error):
                heartbeats.record(connection, Heartbeat.Kind.RELAY, error=fault)
            # The error goes from the table as soon as it is over.
            self._heartbeat_timer.ring_at_once()
        self._disconnect()

    def _tell_of(self, fault: str) -> str:
        """Log a fault of the broker's that this relay may not even feel, once. Returns it, for the heartbeat."""
        if fault and fault != self._fault:
            logger.error(fault)
        self._fault = fault
        return fault

    def _disconnect(self) -> None:
        self._view = View()
        self.publisher.close()
        connection.close()


def _recover_maintenance(error: Exception, pause: float) -> None:
    logger.warning("Maintenance pauses for %.1f s: %r", pause, error, exc_info=not isinstance(error, Error))
    connection.close()


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

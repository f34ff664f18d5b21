"""A loop that goes on whatever happens in it, and its timers."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Protocol

from django.conf import settings

from jobs.relay.watchdog import Watchdog
from tenants.binding import bind_to_public
from tenants.connection import connection

#: Seconds; the longest pause while database or broker is away.
MAX_PAUSE = 5.0
#: Seconds that a thread gets to end what it has begun. The server rolls back what is not done by then.
PATIENCE = 3.0


class Stops(Protocol):
    """The queue that a stop is put into. `get` raises queue.Empty after `timeout` seconds without one."""

    def put(self, item: None) -> None: ...

    def get(self, *, timeout: float) -> None: ...


class Loop:
    """Calls `look` until it is stopped. A look returns for how many seconds the loop may pause.

    When a look raises, `recover` gets the error and the pause to come, which grows while looks fail.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], float],
        *,
        recover: Callable[[Exception, float], None],
        stops: Stops | None = None,
    ) -> None:
        self.name = name
        self._look = look
        self._recover = recover
        # A queue, since its put() is reentrant: an Event deadlocks if the signal comes while its lock is held.
        self._stops: Stops = SimpleQueue() if stops is None else stops

    def run(self, watchdog: Watchdog) -> None:
        """Loop until `stop()` is called. If a look hangs, the watchdog ends the process."""
        pause = 0.0
        while not self._stopped(pause):
            watchdog.look_in(self.name)
            try:
                pause = self._look()
            except Exception as error:  # whatever it is, the loop goes on
                pause = min(max(2 * pause, settings.RELAY_IDLE_POLL), MAX_PAUSE)
                self._recover(error, pause)
        watchdog.leave(self.name)

    def stop(self) -> None:
        """Let `run` end after the look that it is in; for signal handlers and other threads."""
        self._stops.put(None)

    def _stopped(self, pause: float) -> bool:
        try:
            self._stops.get(timeout=pause)
        except Empty:
            return False
        return True


@contextmanager
def beside(loop: Loop, watchdog: Watchdog) -> Iterator[None]:
    """Run a loop in a thread and on a connection of its own, past the pooler, for as long as the block runs."""

    def run() -> None:
        bind_to_public()
        try:
            with connection.direct():
                loop.run(watchdog)
        finally:
            connection.close()

    thread = threading.Thread(target=run, name=loop.name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.stop()
        thread.join(PATIENCE)
        watchdog.leave(loop.name)


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

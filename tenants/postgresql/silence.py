"""A PostgreSQL that says nothing: a path that takes what is sent and brings nothing back.

A request has limits on the server, which a server that can't be reached does not keep. So it has one of its own, beyond
those. Jobs, the relay and commands have none: leases and TCP's time-outs bound what they wait for.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg

#: Seconds for which this context waits while nothing comes or goes; None: for as long as it takes
patience: ContextVar[float | None] = ContextVar("tenantry_patience", default=None)
#: Seconds after a connection could not be made in time, in which nobody with a limit tries to make another
PAUSE = 1.0


class Silence(psycopg.OperationalError):
    """PostgreSQL has said nothing for as long as this context waits."""


@contextmanager
def wait_no_longer_than(seconds: float) -> Iterator[None]:
    """Let this context wait for so long at the most."""
    before = patience.get()
    patience.set(seconds if before is None else min(seconds, before))
    try:
        yield
    finally:
        patience.set(before)


def listen(gen: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """psycopg's generator, which raises Silence when nothing has come or gone for so many seconds."""
    heard_at = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            # psycopg's wait() looks in ten times a second, with nothing.
            ready = yield wanted
            if ready:
                heard_at = time.monotonic()
            elif time.monotonic() > heard_at + seconds:
                gen.close()
                raise Silence(f"PostgreSQL has said nothing for {seconds:g} s.")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


class Path:
    """What this process knows of the path to PostgreSQL. Only who has a limit asks."""

    def __init__(self, *, pause: float = PAUSE) -> None:
        self._pause = pause
        self._silent_at = float("-inf")
        self._try_at: float | None = None

    def note_silence(self) -> None:
        """Somebody has waited for an answer in vain."""
        self._silent_at = time.monotonic()

    def was_silent_since(self, moment: float) -> bool:
        """Whether a connection that was made then, by time.monotonic(), may be dead."""
        return moment < self._silent_at

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Make a connection inside. Once that took too long, one thread tries again, and the others do not wait.

        Raises Silence for those.
        """
        if self._try_at is not None:
            if time.monotonic() < self._try_at:
                raise Silence("PostgreSQL did not answer a moment ago.")
            self._try_at = float("inf")  # this thread tries
        try:
            yield
        except (Silence, psycopg.errors.ConnectionTimeout):
            self._try_at = time.monotonic() + self._pause
            raise
        except BaseException:
            self._try_at = None
            raise
        self._try_at = None


path = Path()

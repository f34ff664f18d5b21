"""An idle relay sleeps until a dispatch wakes it, by NOTIFY; a busy one looks again so soon that nobody has to.

Both are told by advisory locks of the relay's session, which cost nothing whatever other transactions do, and which go
with the session. `jobs_wake_relay()` asks for them (migration 0005).
"""

import select
import socket
from queue import Empty
from typing import Any

import psycopg
from django.conf import settings

from tenants.connection import connection, execute, fetch_one

CHANNEL = "jobs_relay"
#: The first half of the locks' keys, and the second: for a relay that listens, and for one that is busy.
LOCK, LISTENS, IS_BUSY = 0x7E4C, 1, 2


class Listener:
    """What a relay waits with between its looks, on the connection of its thread; `put` ends the wait for good."""

    def __init__(self) -> None:
        self._stops, self._stop = socket.socketpair()
        self._session: Any = None
        self._is_busy = False

    def put(self, item: None) -> None:
        """Stop; for signal handlers and other threads."""
        self._stop.send(b"\0")

    def get(self, *, timeout: float) -> None:
        """Return at a stop. Raises queue.Empty after so many seconds, or when a dispatch wakes the relay."""
        sources: list[Any] = [self._stops]
        if timeout >= settings.RELAY_IDLE_POLL and self._listens():
            if self._has_been_woken():
                raise Empty
            sources.append(self._session)
        readable, _, _ = select.select(sources, [], [], timeout)
        if self._stops not in readable:
            raise Empty

    def tell(self, *, is_busy: bool) -> bool:
        """Let dispatches know whether this relay is busy. Returns whether it has to look once more before it sleeps: it
        was busy, or has just begun to listen.
        """
        session = connection.connection
        if session is None or session.shares_sessions:
            return False
        began = session is not self._session and self._listen(session)
        was_busy = self._is_busy
        if is_busy and not was_busy:
            self._is_busy = self._try_to_hold(IS_BUSY)
        elif was_busy and not is_busy:
            execute("SELECT pg_advisory_unlock_shared(%s, %s)", [LOCK, IS_BUSY])
            self._is_busy = False
        return not is_busy and (began or was_busy)

    def _listen(self, session: Any) -> bool:
        with connection.shared_cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        self._is_busy = False
        self._session = session if self._try_to_hold(LISTENS) else None
        return self._session is not None

    @staticmethod
    def _try_to_hold(lock: int) -> bool:
        """A dispatch that asks holds it for a microsecond. Nobody waits for that: the next look tries again."""
        [held] = fetch_one("SELECT pg_try_advisory_lock_shared(%s, %s)", [LOCK, lock])
        return bool(held)

    def _listens(self) -> bool:
        return self._session is not None and self._session is connection.connection and not self._session.closed

    def _has_been_woken(self) -> bool:
        try:
            return bool(list(self._session.notifies(timeout=0)))
        except psycopg.Error:  # it is lost: the next look finds out
            return True

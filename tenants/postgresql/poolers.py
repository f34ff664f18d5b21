"""What is between this process and PostgreSQL: nothing, or a pooler, in one of its modes."""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any

import psycopg

# Questions, each of which a pooler in transaction mode gives away with a chance of one in two, at least
QUESTIONS = 40
# Seconds; a pool that has no session left lets a client wait
PATIENCE = 2

Connect = Callable[..., psycopg.Connection[Any]]


class Pooling(StrEnum):
    """Who gets the session of a connection, and when."""

    NONE = "no"
    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"
    UNKNOWN = "an unknown"

    @property
    def shares_sessions(self) -> bool:
        """Whether each transaction may get another session. Where that is unknown, it is safe to suppose so."""
        return self not in (Pooling.NONE, Pooling.SESSION)


# By what identifies a server, without its password
_known: dict[str, Pooling] = {}


def find_pooling(
    connection: psycopg.Connection[Any], connect: Connect, *, known: dict[str, Pooling] = _known
) -> Pooling:
    """What this new connection, in autocommit mode, leads to.

    `connect` makes another connection, with more parameters. It is called where there is a pooler, and once for each
    server that is not `known`. Raises psycopg's errors if the connection itself fails.
    """
    # The pid of the handshake is the pooler's invention.
    if _pid(connection) == connection.info.backend_pid:
        return Pooling.NONE
    server = connection.info.dsn
    if server in known:
        return known[server]
    try:
        with connect(connect_timeout=PATIENCE) as other, _impatience(other):
            pooling = _find_mode(connection, other)
    except psycopg.Error:
        # The pool, or the pooler, had no room for another client in time. Asked again at the next connection.
        return Pooling.UNKNOWN
    known[server] = pooling
    return pooling


def _find_mode(connection: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> Pooling:
    if not _share_sessions(connection, other):
        return Pooling.SESSION
    return Pooling.TRANSACTION if _allows_transactions(other) else Pooling.STATEMENT


def _share_sessions(*connections: psycopg.Connection[Any]) -> bool:
    """Whether one of these idle connections gets another session than before, or one that is another's.

    Neither happens in session mode. A pooler may hand out the session that was used last, or the one that was not used
    for longest, and other clients may take some between two questions. So connections ask in no order, and often.
    """
    owners: dict[int, psycopg.Connection[Any]] = {}
    pids: dict[psycopg.Connection[Any], int] = {}
    for _ in range(QUESTIONS):
        connection = random.choice(connections)
        pid = _pid(connection)
        if owners.setdefault(pid, connection) is not connection or pids.setdefault(connection, pid) != pid:
            return True
    return False


def _allows_transactions(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("BEGIN")
        connection.execute("ROLLBACK")
    except psycopg.errors.ProtocolViolation:
        return False
    return True


@contextmanager
def _impatience(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """After PATIENCE, let whatever the connection waits for fail."""
    # close() from another thread is not safe while libpq waits.
    with socket.socket(fileno=socket.dup(connection.fileno())) as line:
        timer = threading.Timer(PATIENCE, _hang_up, [line])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):  # the other side did
        line.shutdown(socket.SHUT_RDWR)


def _pid(connection: psycopg.Connection[Any]) -> int:
    # What psycopg prepares by itself would stay in a session that is somebody else's next.
    [pid] = connection.execute("SELECT pg_catalog.pg_backend_pid()", prepare=False).fetchone() or [0]
    return int(pid)

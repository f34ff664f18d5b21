"""What is between this process and PostgreSQL: nothing, or a pooler that gives each transaction another session."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg

# Times that the question is asked: another client may take a session between two of them
ROUNDS = 3
# Seconds; a pool that has no session left lets a client wait
PATIENCE = 2.0

Connect = Callable[[], psycopg.Connection[Any]]

_known: dict[str, bool] = {}


def shares_sessions(connection: psycopg.Connection[Any], connect: Connect) -> bool:
    """Whether the connection leads to a pooler in transaction mode, behind which a session is anybody's.

    `connect` makes another connection. It is called where there is a pooler, once for each server in this process.
    """
    # The pid of the handshake is the pooler's invention.
    if _pid(connection) == connection.info.backend_pid:
        return False
    server = connection.info.dsn
    if server not in _known:
        _known[server] = _ask(connect)
    return _known[server]


def _ask(connect: Connect) -> bool:
    with connect() as first, connect() as second:
        timer = threading.Timer(PATIENCE, second.close)
        timer.start()
        try:
            return any(_takes_session(first, second) for _ in range(ROUNDS))
        except psycopg.OperationalError:
            return True  # no session was left in time; to suppose this mode is safe
        finally:
            timer.cancel()


def _takes_session(first: psycopg.Connection[Any], second: psycopg.Connection[Any]) -> bool:
    """Whether a transaction of the second connection gets the session that the first one had."""
    session = _pid(first)
    with second.transaction():
        return _pid(second) == session or _pid(first) != session


def _pid(connection: psycopg.Connection[Any]) -> int:
    [pid] = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone() or [0]
    return int(pid)

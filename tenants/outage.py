"""Whether an error says that the database is away or busy, rather than that a statement is wrong."""

import re

import psycopg
from django.db import Error, InterfaceError, OperationalError

from tenants.connection import connection

# What the server, or a pooler, says when it can't take or keep a connection: the connection is lost, there are too
# many, the server goes down, comes up, or ends the session
AWAY = re.compile("08|53300|57P0[1-5]")
# A statement that reached its time limit, or was cancelled; a lock that was not to be had in time; a deadlock, and a
# serialization failure. What the transaction had begun is rolled back, and may succeed later.
BUSY = re.compile("57014|55P03|40P01|40001")


def is_away(error: BaseException) -> bool:
    """Whether it means that the database could not be reached, or was lost on the way."""
    sqlstate = _sqlstate(error)
    if sqlstate is not None:
        return AWAY.match(sqlstate) is not None
    if isinstance(error, OperationalError | psycopg.OperationalError):
        # libpq's own: the server did not answer, or hung up.
        return True
    # A cursor that was closed too early is an InterfaceError, too.
    lost = connection.connection is None or connection.connection.closed
    return lost and isinstance(error, InterfaceError | psycopg.InterfaceError)


def is_busy(error: BaseException) -> bool:
    """Whether it means that the database had no time for a statement, or no lock."""
    return BUSY.match(_sqlstate(error) or "") is not None


def _sqlstate(error: BaseException) -> str | None:
    cause = error.__cause__ if isinstance(error, Error) and error.__cause__ is not None else error
    sqlstate: str | None = getattr(cause, "sqlstate", None)
    return sqlstate

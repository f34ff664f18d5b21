"""Which errors of the database pass: the transaction is rolled back, and the same body may succeed later."""

import re
from typing import Any

import psycopg
from django.db import Error, InterfaceError, OperationalError

from tenants.connection import connection

# Connection, serialization and deadlock, resources, locks not to be had, cancelled by the server, read-only while a
# standby takes over, and the server going down or coming up. Time-outs of idle transactions (25P03, 25P04) are a body's
# own doing.
PASSING = re.compile("08|40|53|55P03|57014|25006|57P0[1235]")


def is_transient(error: BaseException, session: Any) -> bool:
    """Whether it is such an error, of the database session that the attempt began with, or that it has now.

    What a body gets from another database says nothing about this one. A group is such an error if all in it are.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_transient(one, session) for one in error.exceptions)
    cause = error.__cause__ if isinstance(error, Error) else error
    if isinstance(cause, psycopg.Error) and cause.sqlstate is not None:
        sessions = (session, connection.connection)
        own = any(session is not None and session.raised(cause) for session in sessions)
        return own and PASSING.match(cause.sqlstate) is not None
    # A session that was lost, or that could not be made again, has no more to say.
    lost = isinstance(error, InterfaceError | OperationalError | psycopg.InterfaceError | psycopg.OperationalError)
    return lost and bool(session.closed) and not session.was_closed


def is_read_only(error: BaseException) -> bool:
    """Whether something could not be written because the transaction, or the server, is for reading only."""
    cause = error.__cause__ if isinstance(error, Error) else error
    return isinstance(cause, psycopg.errors.ReadOnlySqlTransaction)

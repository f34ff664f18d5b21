"""Django's default connection, typed as the wrapper of tenants/postgresql that it is."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import InterfaceError, OperationalError

from tenants.postgresql.internals import is_broken
from tenants.postgresql.silence import Silence

if TYPE_CHECKING:
    from tenants.postgresql.base import DatabaseWrapper

    connection: DatabaseWrapper
else:
    from django.db import connection

__all__ = [
    "HAS_SCHEMA",
    "connection",
    "execute",
    "fetch_all",
    "fetch_one",
    "retry_on_broken_connection",
    "wait_for_database",
]

T = TypeVar("T")
#: Seconds between two tries while the database is away
PAUSE = 0.2
Parameters = Mapping[str, Any] | Sequence[Any]

# SQL: whether the tenant of this row has its schema. It asks the catalog, because a schema may be dropped by hand while
# its tenant's row stays. A function call is cheaper to plan than a join.
HAS_SCHEMA = "to_regnamespace(quote_ident(schema_name)) IS NOT NULL"


def execute(statement: str, parameters: Parameters) -> int:
    """How many rows a statement changed. It names the schema of every table, and needs no tenant."""
    with connection.shared_cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def fetch_one(statement: str, parameters: Parameters) -> Any:
    """The first row of such a statement, as a tuple; None if there is none."""
    with connection.shared_cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()


def fetch_all(statement: str, parameters: Parameters) -> list[Any]:
    """All rows of such a statement, as tuples."""
    with connection.shared_cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def wait_for_database(*, seconds: float) -> None:
    """Return when a statement gets through. While the connection is broken, try new ones, for so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fetch_one("SELECT 1", [])
        except (InterfaceError, OperationalError):
            if not is_broken(connection) or time.monotonic() > deadline:
                raise
            connection.close()
            time.sleep(PAUSE)
        else:
            return


def retry_on_broken_connection(statement: Callable[[], T]) -> T:
    """Run a statement that may be repeated. If its connection proves broken, repeat it once on a new connection.

    A process keeps its connection for long. This is where it finds out that PostgreSQL ended the session meanwhile.
    Raises what the statement raises, when a transaction is open or the connection still works, and when PostgreSQL said
    nothing: the statement has waited for long enough.
    """
    try:
        return statement()
    except (InterfaceError, OperationalError) as error:
        if isinstance(error.__cause__, Silence) or not is_broken(connection):
            raise
        connection.close()
        return statement()

"""Binding this thread's connection to the schema that a task belongs to."""

from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError
from psycopg.pq import TransactionStatus

from tenants.connection import connection

T = TypeVar("T")


class TenantUnavailable(Exception):
    """The schema that a task belongs to is neither `public` nor an active tenant's: its body must not run."""


def enter(schema: str) -> None:
    """Bind the connection to `schema`. Raises TenantUnavailable, or the database's own error; then nothing is bound."""
    clean()
    check_available(schema)
    connection.set_schema(schema)


def check_available(schema: str) -> None:
    """Raises TenantUnavailable unless tasks may run in this schema now."""
    if schema != "public" and (status := healed(lambda: _status(schema))) != "active":
        raise TenantUnavailable(f"The tenant of schema {schema!r} is {status or 'unknown'}: the task was not run.")


def clean() -> None:
    """Undo what an earlier task may have left on this thread's connection."""
    if in_transaction():
        # Nobody will leave these atomic blocks any more, and close() alone would wait for that with a dead connection.
        connection.in_atomic_block = connection.closed_in_transaction = False
        connection.close()
    connection.set_schema_to_public()


def in_transaction() -> bool:
    """Whether a transaction is open that a body, or its caller, began. That around a Django TestCase is not."""
    if connection.connection is None:
        return False
    if connection.in_atomic_block:
        return not connection.atomic_blocks[-1]._from_testcase
    # By psycopg's word too: Django does not know of a BEGIN that a body executed.
    status = connection.connection.info.transaction_status
    return not connection.get_autocommit() or status is not TransactionStatus.IDLE


def healed(statement: Callable[[], T]) -> T:
    """Run a statement that may be repeated; if its connection proves broken, repeat it once on a new one.

    A worker keeps its connection over many tasks, so a backend that PostgreSQL ended meanwhile is found out here.
    """
    try:
        return statement()
    except (InterfaceError, OperationalError):
        if connection.in_atomic_block or connection.is_usable():
            raise
        connection.close()
        return statement()


def _status(schema: str) -> str | None:
    # By the catalog too: a schema that was dropped while its row stayed must not count as there.
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT status FROM public.tenants_tenant
            JOIN pg_catalog.pg_namespace ON nspname = schema_name
            WHERE schema_name = %s
            """,
            [schema],
        )
        row = cursor.fetchone()
    return row[0] if row else None

"""Binding this thread's connection to the schema that a task belongs to."""

from psycopg.pq import TransactionStatus

from tenants.connection import ENTER_IF_ACTIVE, HAS_SCHEMA, connection, healed

TENANT = f"FROM public.tenants_tenant WHERE schema_name = %s AND {HAS_SCHEMA}"
STATUS = f"SELECT status {TENANT}"
ENTER = f"SELECT status, {ENTER_IF_ACTIVE} {TENANT}"


class TenantUnavailable(Exception):
    """The schema that a task belongs to is neither `public` nor an active tenant's: its body must not run."""


def enter(schema: str) -> None:
    """Bind the connection to `schema`. Raises TenantUnavailable, or the database's own error; then nothing is bound."""
    clean()
    if schema != "public":
        _check(schema, healed(lambda: _look(ENTER, schema)))
        connection.set_schema(schema)
        connection.bound()


def check_available(schema: str) -> None:
    """Raises TenantUnavailable unless tasks may run in this schema now."""
    if schema != "public":
        _check(schema, healed(lambda: _look(STATUS, schema)))


def _check(schema: str, status: str | None) -> None:
    if status != "active":
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


def _look(statement: str, schema: str) -> str | None:
    with connection.shared_cursor() as cursor:
        cursor.execute(statement, [schema])
        row = cursor.fetchone()
    return row[0] if row else None

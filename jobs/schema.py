"""Which schema a task belongs to, and binding this thread's connection to it."""

from typing import Any

from celery.app.task import Context

from jobs.message import OPTION, header_of
from tenants.connection import ENTER_IF_ACTIVE, HAS_SCHEMA, connection, fetch_one, retry_on_broken_connection
from tenants.session import start_clean

STATUS = f"SELECT status FROM public.tenants_tenant WHERE schema_name = %s AND {HAS_SCHEMA}"
ENTER = f"SELECT status, {ENTER_IF_ACTIVE} FROM public.tenants_tenant WHERE schema_name = %s AND {HAS_SCHEMA}"


class TenantUnavailable(Exception):
    """The schema that a task belongs to is neither `public` nor an active tenant's: its body must not run."""


def schema_of(request: Context) -> str:
    """The schema that a request belongs to. Raises TenantUnavailable for a message that names none."""
    schema = connection.schema_name if request.is_eager else header_of(request).get("schema")
    if not isinstance(schema, str) or not schema:
        raise TenantUnavailable("The message names no tenant: it was not sent by this app. The task was not run.")
    return schema


def schema_of_result(request: Any) -> str:
    """Where the result of a request goes: its schema, or the active one if it names none.

    `request` may be None, or what Celery makes in the place of one: for the part of a chain, for an unknown task.
    """
    schema = header_of(request).get("schema") or getattr(request, OPTION, None)
    return str(schema or connection.schema_name)


def enter(schema: str) -> None:
    """Bind the connection to `schema`. Raises TenantUnavailable, or the database's own error; then nothing is bound."""
    reset_session()
    if schema != "public":
        _check(schema, retry_on_broken_connection(lambda: _status(ENTER, schema)))
        connection.set_schema(schema)
        connection.bound()


def check_available(schema: str) -> None:
    """Raises TenantUnavailable unless tasks may run in this schema now."""
    if schema != "public":
        _check(schema, retry_on_broken_connection(lambda: _status(STATUS, schema)))


def reset_session() -> None:
    """Let nothing of an earlier task stay on this thread: no transaction, and nothing in session or settings."""
    if connection.in_transaction():
        connection.abandon_transaction()
    start_clean()
    connection.set_schema_to_public()


def _check(schema: str, status: str | None) -> None:
    if status != "active":
        raise TenantUnavailable(f"The tenant of schema {schema!r} is {status or 'unknown'}: the task was not run.")


def _status(statement: str, schema: str) -> str | None:
    row = fetch_one(statement, [schema])
    return row[0] if row else None

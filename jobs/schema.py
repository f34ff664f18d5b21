"""Which schema a task belongs to, and binding this thread's connection to it."""

from typing import Any

from celery.app.task import Context

from jobs.message import OPTION, header_of
from tenants.binding import bind_to_public, bound_schema
from tenants.connection import HAS_SCHEMA, connection, fetch_one, retry_on_broken_connection
from tenants.session import start_owner

STATUS = f"SELECT status FROM public.tenants_tenant WHERE schema_name = %s AND {HAS_SCHEMA}"


class TenantUnavailable(Exception):
    """The schema that a task belongs to is neither `public` nor an active tenant's: its body must not run."""


def bind_worker(**kwargs: Any) -> None:
    """For a worker that starts: what its main process does between tasks is the platform's."""
    bind_to_public()


def schema_of(request: Context) -> str:
    """The schema that a request belongs to. Raises TenantUnavailable for a message that names none."""
    schema = connection.schema_name if request.is_eager else header_of(request).get("schema")
    if not isinstance(schema, str) or not schema:
        raise TenantUnavailable("The message names no tenant: it was not sent by this app. The task was not run.")
    return schema


def schema_of_result(request: Any) -> str:
    """Where the result of a request goes: its schema, or the one that is bound if it names none, or `public`.

    `request` may be None, or what Celery makes in the place of one: for the part of a chain, for an unknown task.
    """
    schema = header_of(request).get("schema") or getattr(request, OPTION, None)
    return str(schema or bound_schema() or "public")


def enter(schema: str) -> None:
    """Start clean in `schema`. Raises TenantUnavailable, or the database's own error; then nothing is bound."""
    start_owner()
    check_available(schema)
    connection.set_schema(schema)


def check_available(schema: str) -> None:
    """Raises TenantUnavailable unless tasks may run in this schema now."""
    if schema == "public":
        return
    row = retry_on_broken_connection(lambda: fetch_one(STATUS, [schema]))
    status = row[0] if row else None
    if status != "active":
        raise TenantUnavailable(f"The tenant of schema {schema!r} is {status or 'unknown'}: the task was not run.")

"""Result rows, each in the schema of its task's tenant."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import ProgrammingError
from django_tenants.utils import quote_schema_name
from kombu.serialization import dumps
from psycopg.errors import InvalidSchemaName, UndefinedTable

from jobs.codec import encode_result
from tenants.connection import connection, execute, fetch_one

logger = logging.getLogger(__name__)

COLUMNS = (
    "task_id",
    "task_name",
    "task_args",
    "task_kwargs",
    "periodic_task_name",
    "worker",
    "status",
    "content_type",
    "content_encoding",
    "result",
    "traceback",
    "meta",
    "date_created",
)
# A result never leaves a terminal state: a late duplicate must not turn SUCCESS into STARTED. A row that was
# written when the task started keeps its `date_started`.
STORE = """
    INSERT INTO {schema}.django_celery_results_taskresult AS stored (
        task_id, task_name, task_args, task_kwargs, periodic_task_name, worker, status,
        content_type, content_encoding, result, traceback, meta,
        date_created, date_started, date_done
    )
    VALUES (
        %(task_id)s, %(task_name)s, %(task_args)s, %(task_kwargs)s, %(periodic_task_name)s, %(worker)s, %(status)s,
        %(content_type)s, %(content_encoding)s, %(result)s, %(traceback)s, %(meta)s,
        coalesce(%(date_created)s::timestamptz, clock_timestamp()),
        CASE WHEN %(status)s = 'STARTED' THEN clock_timestamp() END, clock_timestamp()
    )
    ON CONFLICT (task_id) DO UPDATE SET
        task_name = excluded.task_name, task_args = excluded.task_args, task_kwargs = excluded.task_kwargs,
        periodic_task_name = excluded.periodic_task_name, worker = excluded.worker, status = excluded.status,
        content_type = excluded.content_type, content_encoding = excluded.content_encoding,
        result = excluded.result, traceback = excluded.traceback, meta = excluded.meta,
        date_started = coalesce(excluded.date_started, stored.date_started), date_done = excluded.date_done
    WHERE stored.status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED', 'IGNORED')
"""


def is_of_job(task_id: str) -> bool:
    """Whether a row of that id waits, or is dead: then its own endings alone write its result."""
    try:
        job_id = UUID(task_id)
    except ValueError:
        return False
    return fetch_one("SELECT FROM public.jobs_job WHERE id = %s", [job_id]) is not None


def store(schema: str, row: dict[str, Any]) -> None:
    """Write a result row (a value for each of COLUMNS; those left out are NULL) unless a terminal one is there."""
    execute(_statement(schema), _columns(row))


def store_with_commit(schema: str, row: dict[str, Any]) -> None:
    """As `store`, in one message with the transaction's COMMIT."""
    connection.send_with_commit(_statement(schema), _columns(row))


def forget(schema: str, task_id: str) -> None:
    """Delete the result of a task that is to run again."""
    table = f"{quote_schema_name(schema)}.django_celery_results_taskresult"
    execute(f"DELETE FROM {table} WHERE task_id = %s", [task_id])


def store_unless_gone(schema: str, row: dict[str, Any]) -> None:
    """As `store`, outside of a transaction; a schema that is gone can't keep a result, so the log has it."""
    with _unless_gone(f"No schema {schema!r}, so {row['status']} of task {row['task_id']} was not stored"):
        store(schema, row)


def delete_expired(schema: str, *, before: datetime, batch: int) -> None:
    """Delete what was done before a time, `batch` rows in a transaction; nothing, if the schema is gone."""
    with _unless_gone(f"No schema {schema!r}, so no results are cleaned up there"):
        for table in ("taskresult", "groupresult"):
            _delete_expired(f"{quote_schema_name(schema)}.django_celery_results_{table}", before, batch)


def _delete_expired(table: str, before: datetime, batch: int) -> None:
    expired = f"SELECT id FROM {table} WHERE date_done < %s LIMIT %s"
    while execute(f"DELETE FROM {table} WHERE id IN ({expired})", [before, batch]) == batch:
        pass


@contextmanager
def _unless_gone(warning: str) -> Iterator[None]:
    try:
        yield
    except ValidationError:  # its name can be no tenant's
        logger.warning(warning)
    except ProgrammingError as error:
        if not isinstance(error.__cause__, UndefinedTable | InvalidSchemaName):
            raise
        logger.warning(warning)


def _statement(schema: str) -> str:
    return STORE.format(schema=quote_schema_name(schema))


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS), **row}


def encoded(value: Any) -> dict[str, Any]:
    """`value` in the columns of a result row, as Celery's JSON serializer has it. Raises EncodeError."""
    content_type, content_encoding, content = dumps(value, serializer="json")
    return {"content_type": content_type, "content_encoding": content_encoding, "result": content}


def encoded_plainly(value: Any) -> dict[str, Any]:
    """A durable job's result in the columns of a result row. Raises TypeError for what is no plain JSON."""
    return {"content_type": "application/json", "content_encoding": "utf-8", "result": encode_result(value)}

"""What a worker's parent process does in the database, without stalling its children."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from django_tenants.utils import schema_context

from tenants.connection import connection

logger = logging.getLogger(__name__)

#: A parent must not stall on a lock that its child's transaction still holds: it serves all other children.
TIME_LIMIT = "2s"


@contextmanager
def bounded_transaction(action: str, job_id: str) -> Iterator[None]:
    """A short transaction. If it fails, the `action` is logged as failed, and the job's lease will run out."""
    try:
        if connection.connection is not None and not connection.is_usable():
            connection.close()
        with schema_context("public"), transaction.atomic():
            _set_time_limits()
            yield
    except Exception:
        logger.exception("Could not %s job %s: its lease will run out", action, job_id)


def _set_time_limits() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', %(time)s, true), set_config('statement_timeout', %(time)s, true)",
            {"time": TIME_LIMIT},
        )

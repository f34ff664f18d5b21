"""What a worker's parent process does in the database, without stalling its children."""

import logging
from collections.abc import Callable

from django.db import transaction
from django_tenants.utils import schema_context

from tenants.connection import connection

logger = logging.getLogger(__name__)

#: A parent must not stall on a lock that its child's transaction still holds: it serves all other children.
TIME_LIMIT = "2s"


def in_bounded_transaction(deed: Callable[[], object], *, action: str, job_id: str) -> bool:
    """Do it in a short transaction. If that fails, the `action` is logged as failed, and the job's lease will run out.

    Returns whether it is done: committed, and the deed returned something true. It raises nothing, though the database
    is away: the worker's loop would end.
    """
    try:
        if connection.connection is not None and not connection.is_usable():
            connection.close()
        with schema_context("public"), transaction.atomic():
            _set_time_limits()
            done = deed()
    except Exception:
        logger.exception("Could not %s job %s: its lease will run out", action, job_id)
        return False
    return bool(done)


def _set_time_limits() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', %(time)s, true), set_config('statement_timeout', %(time)s, true)",
            {"time": TIME_LIMIT},
        )

"""What a process finds out at its start of the pooler that it is behind, and who can't be safe there."""

import logging

from django.db import InterfaceError, OperationalError

from tenants.connection import connection
from tenants.postgresql.poolers import Pooling

logger = logging.getLogger(__name__)

STATEMENT_MODE = (
    "{url} leads to a pooler in statement mode, which allows no transactions. Set its pool_mode to transaction, or to "
    "session."
)
NO_DIRECT_URL = (
    "DATABASE_URL leads to a pooler in transaction mode, and DATABASE_DIRECT_URL is not set. Set it to a URL of "
    "the same database that leads past the pooler: migrations, new schemas and the relay need sessions of their own."
)
DIRECT_URL_IS_POOLED = (
    "DATABASE_DIRECT_URL leads to a pooler in transaction mode. Let it lead past the pooler, to PostgreSQL itself."
)


def find_pooler_fault() -> str | None:
    """Why nothing can be safe with this pooler, in one line; None if there is none, or it is fine. Logs what it is."""
    connection.ensure_connection()
    pooling = connection.connection.pooling
    direct = _direct_pooling()
    if pooling is not Pooling.NONE:
        past = "no DATABASE_DIRECT_URL" if direct is None else "a DATABASE_DIRECT_URL"
        logger.info("DATABASE_URL leads to a pooler in %s mode; there is %s.", pooling, past)
    if Pooling.STATEMENT in (pooling, direct):
        return STATEMENT_MODE.format(url="DATABASE_URL" if pooling is Pooling.STATEMENT else "DATABASE_DIRECT_URL")
    if direct is Pooling.TRANSACTION:
        return DIRECT_URL_IS_POOLED
    if direct is None and pooling is Pooling.TRANSACTION:
        return NO_DIRECT_URL
    return None


def _direct_pooling() -> Pooling | None:
    try:
        return connection.find_direct_pooling()
    except (InterfaceError, OperationalError) as error:
        # Requests and jobs can go on without.
        logger.warning("DATABASE_DIRECT_URL does not answer: %s", " ".join(str(error).split()))
        return Pooling.UNKNOWN

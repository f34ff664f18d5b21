"""Django's connection, typed as what it is here: that of tenants/postgresql."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from django.db import InterfaceError, OperationalError

if TYPE_CHECKING:
    from tenants.postgresql.base import DatabaseWrapper

    connection: DatabaseWrapper
else:
    from django.db import connection

__all__ = ["ENTER_IF_ACTIVE", "HAS_SCHEMA", "connection", "healed"]

T = TypeVar("T")

# By the catalog too: a schema that was dropped while its tenant's row stayed is not there. Cheaper to plan than a join.
HAS_SCHEMA = "to_regnamespace(quote_ident(schema_name)) IS NOT NULL"
# For a statement that looks a tenant up, which then enters its schema in the same round trip: see `connection.bound()`.
ENTER_IF_ACTIVE = "CASE status WHEN 'active' THEN set_config('search_path', quote_ident(schema_name), false) END"


def healed(statement: Callable[[], T]) -> T:
    """Run a statement that may be repeated; if its connection proves broken, repeat it once on a new one.

    A process keeps its connection for long, so a backend that PostgreSQL ended meanwhile is found out here.
    """
    try:
        return statement()
    except (InterfaceError, OperationalError):
        if connection.in_atomic_block or connection.is_usable():
            raise
        connection.close()
        return statement()

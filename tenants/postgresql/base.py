from typing import Any

from django.db.utils import OperationalError
from django_tenants.postgresql_backend.base import DatabaseWrapper as TenantDatabaseWrapper
from psycopg.pq import TransactionStatus


class DatabaseWrapper(TenantDatabaseWrapper):
    """django-tenants' backend, without its two ways of falling through to another schema.

    Its search path is the tenant's schema alone: `SET search_path TO gone, public` is no error in PostgreSQL, and a
    table that exists in both schemas would answer from `public`. What a tenant needs of `public` is named with its
    schema.
    """

    def _get_cursor_search_paths(self) -> list[str]:
        return list(super()._get_cursor_search_paths()[:1])

    def _handle_search_path(self, cursor: Any = None) -> None:
        nested = self._setting_search_path
        super()._handle_search_path(cursor)
        if nested or self.search_path_set_schemas is not None:
            return
        # The parent swallows a failed SET, for a statement that comes before a ROLLBACK. Anywhere else (a cancelled
        # SET, say) the statement that follows would run in the schema that was set before.
        if self.connection.info.transaction_status is not TransactionStatus.INERROR:
            raise OperationalError(f"The search path could not be set to {self.schema_name!r}")

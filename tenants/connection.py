"""Django's connection, typed as what it is here: that of tenants/postgresql."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenants.postgresql.base import DatabaseWrapper

    connection: DatabaseWrapper
else:
    from django.db import connection

__all__ = ["connection"]

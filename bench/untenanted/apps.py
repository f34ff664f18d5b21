from django.apps import AppConfig
from django.db.backends.postgresql.base import DatabaseWrapper


class TenantsConfig(AppConfig):
    """The product's app `tenants`, without what it connects to requests."""

    name = "tenants"

    def ready(self) -> None:
        # The product's limits count by it. There is one schema here.
        DatabaseWrapper.schema_name = "untenanted"  # type: ignore[attr-defined]  # our own wrapper declares it

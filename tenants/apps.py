"""Django's entry for this app."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """The tenants: which are there, and in which schema each of them lives."""

    name = "tenants"

    def ready(self) -> None:
        """Connect to Django's signals."""
        from django.core.signals import request_finished

        from tenants.session import roll_back_open_transaction

        request_finished.connect(roll_back_open_transaction, dispatch_uid="tenants.roll_back_open_transaction")

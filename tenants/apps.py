"""Django's entry for this app."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """The tenants: which are there, and in which schema each of them lives."""

    name = "tenants"

    def ready(self) -> None:
        """Connect to Django's signals, and register the checks."""
        from django.core.signals import request_finished, request_started

        from tenants import audit, checks  # noqa: F401
        from tenants.postgresql.blocks import keep_blocks_apart
        from tenants.postgresql.content_types import keep_content_types_apart
        from tenants.session import end_request, start_request

        request_started.connect(start_request, dispatch_uid="tenants.start_request")
        request_finished.connect(end_request, dispatch_uid="tenants.end_request")
        keep_content_types_apart()
        keep_blocks_apart()

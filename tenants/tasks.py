"""The tasks of this app."""

from celery import shared_task
from django.db import InterfaceError, OperationalError

from tenants import spares


# Not atomic, because migrations commit as they go. The next try drops what a killed one has left half-way.
@shared_task(
    atomic=False, autoretry_for=(InterfaceError, OperationalError), retry_backoff=2, retry_backoff_max=60, max_retries=6
)
def fill_spares() -> int:
    """Make spare schemas until there are SPARE_SCHEMAS. Returns how many were made."""
    return spares.fill_spares()

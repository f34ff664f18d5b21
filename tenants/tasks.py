from celery import shared_task
from django.db import InterfaceError, OperationalError

from tenants import spares


# Not atomic: migrations commit as they go. What a killed try has left half-way, the next one drops.
@shared_task(
    atomic=False, autoretry_for=(InterfaceError, OperationalError), retry_backoff=2, retry_backoff_max=60, max_retries=6
)
def fill_spares() -> int:
    return spares.fill_spares()

"""The tasks of this app."""

from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError

from tenants import spares
from tenants.slots import NoSlot, seconds_in_line


# Not atomic, because migrations commit as they go. The next try drops what a killed one has left half-way.
@shared_task(
    bind=True,
    atomic=False,
    autoretry_for=(InterfaceError, OperationalError),
    retry_backoff=2,
    retry_backoff_max=60,
    max_retries=6,
)
def fill_spares(self: Any) -> bool:
    """Make one spare schema, and dispatch itself anew if more are wanted. Returns whether it made one."""
    try:
        made = spares.make_spare()
    except NoSlot:
        raise self.snooze(seconds_in_line(), limited=False) from None
    with self.completion() as done:
        done.result = made
        if spares.are_wanted():
            self.delay_on_commit()
    return made

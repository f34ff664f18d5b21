"""Owners: whoever a thread and its database session serve for a while, a request or a task.

A session is kept for the next owner, and would hand on what the last one left in it: temporary tables, settings, a
role, locks. So each owner starts clean.
"""

from typing import Any

from django.utils import timezone, translation

from tenants.connection import connection


def start_clean() -> None:
    """Let this thread's next owner find nothing of the one before it, in the database session or in Django.

    It costs no message: the cleaning goes with the owner's first statement. An owner inside another one, such as the
    request of a test client in a transaction of the test, cleans nothing.
    """
    if connection.start_clean():
        translation.deactivate()
        timezone.deactivate()


def roll_back_open_transaction(**kwargs: Any) -> None:
    """At an owner's end: a transaction that it began by hand must not hold its locks until the next owner comes."""
    if not connection.in_atomic_block and connection.in_transaction():
        connection.abandon_transaction()

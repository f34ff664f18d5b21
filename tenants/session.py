"""Owners: whoever a thread and its database session serve for a while, a request or a task.

A session is kept for the next owner, and would hand on what the last one left in it: temporary tables, settings, a
role, locks. So each owner starts clean, and bound to nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.utils import timezone, translation

from tenants.binding import Owner, bind, bound_tenant, current_owner, set_owner, unbind
from tenants.connection import connection
from tenants.postgresql.transactions import kept_apart_from, open_transaction

# What was bound before each of the requests that this context is in, and whom it served
_requests: ContextVar[tuple[tuple[Any, Owner | None], ...]] = ContextVar("tenantry_requests", default=())


class _Own(Owner):
    """A request or a task: a request inside of it, a test client's, is no owner."""

    def __init__(self, limits: tuple[bytes, ...] = ()) -> None:
        self.limits = limits


def start_owner(limits: tuple[bytes, ...] = ()) -> None:
    """Let this context's next owner find nothing of the one before it: in the database session, in Django, bound.

    It costs no message: the cleaning, and the statements `limits`, go with the owner's first statement, also on the
    connections of helper threads. Inside the transaction of a Django TestCase nothing is cleaned.
    """
    if connection.in_transaction():
        connection.abandon_transaction()
    if isinstance(owner := current_owner(), _Own):  # not a process, which goes on
        owner.is_gone = True
    unbind()
    set_owner(_Own(limits))
    if connection.start_clean():
        translation.deactivate()
        timezone.deactivate()


def end_owner() -> None:
    """Leave nothing of this context's owner behind, before another one comes."""
    start_owner()
    set_owner(None)


def start_request(**kwargs: Any) -> None:
    """For Django's request_started. A request inside of another owner, that of a test client, cleans nothing."""
    owner = current_owner()
    _requests.set((*_requests.get(), (bound_tenant(), owner)))
    if isinstance(owner, _Own) or connection.in_atomic_block:
        unbind()
    else:
        start_owner()


def end_request(**kwargs: Any) -> None:
    """For Django's request_finished: the response is closed, and streamed nothing any more that queries."""
    if not _requests.get():
        return
    *outer, (tenant, owner) = _requests.get()
    if not isinstance(owner, _Own) and not connection.in_atomic_block:
        end_owner()  # what it began by hand must not hold its locks until the next owner comes
    # Not by ContextVar.reset(): with ASGI, the response is closed in another context.
    _requests.set(tuple(outer))
    set_owner(owner)
    bind(tenant)


@contextmanager
def separate_transaction() -> Iterator[None]:
    """Let this context write on a connection of its own, though it has a transaction open on another thread's.

    What is written here is committed by itself, whatever becomes of that transaction. On that one's own connection, a
    statement raises TransactionManagementError.
    """
    transaction, outer = open_transaction.get(), kept_apart_from.get()
    open_transaction.set(None)
    kept_apart_from.set(transaction or outer)
    try:
        yield
    finally:
        open_transaction.set(transaction)
        kept_apart_from.set(outer)

"""The blocks of Django and django-tenants, which end no more than they have begun.

A generator that nobody finishes leaves its blocks when it is collected: in any thread, whomever that serves by then.
There it must not bind, commit or roll back anything. A block that decorates a function has its own state for each call.

This leans on parts of Django and django-tenants that are not documented. tests/tenants/test_private_api.py fails when
one goes away.
"""

from collections.abc import Callable
from copy import copy
from typing import Any

from django.db import OperationalError
from django.db.transaction import Atomic, TransactionManagementError, get_connection
from django_tenants.utils import schema_context, tenant_context

from tenants import binding

GONE = "The transaction of this atomic() block was gone before its end. Nothing of it is committed."
CLOSED = "The connection was closed inside of this atomic() block. Nothing of it is committed."

Exit = Callable[..., bool | None]


def keep_blocks_apart() -> None:
    """For all blocks from now on."""
    for context in (schema_context, tenant_context):
        context.__enter__ = _remembering(context.__enter__)
        context.__exit__ = _leaving_its_own(context.__exit__)
        context._recreate_cm = copy
    atomic: Any = Atomic
    atomic.__exit__ = _ending_its_own(atomic.__exit__)


def _remembering(enter: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def remember(self: Any) -> Any:
        entered = enter(self)
        self._bound = (binding.current_owner(), binding.current())
        return entered

    return remember


def _leaving_its_own(leave: Exit) -> Exit:
    def leave_its_own(self: Any, *exception: Any) -> bool | None:
        owner, bound = self._bound
        is_collected = exception[:1] == (GeneratorExit,) and not binding.is_bound(bound)
        if is_collected or binding.is_anothers(owner):
            return None
        return leave(self, *exception)

    return leave_its_own


def _ending_its_own(end: Exit) -> Exit:
    def end_its_own(self: Any, exc_type: Any, exc_value: Any, traceback: Any) -> bool | None:
        if self._from_testcase:
            return end(self, exc_type, exc_value, traceback)
        connection: Any = get_connection(self.using)
        blocks = connection.atomic_blocks
        if not any(block is self for block in blocks):
            if exc_type is None:
                raise TransactionManagementError(GONE)
            return None
        if blocks[-1] is not self and exc_type is GeneratorExit:
            connection.close()  # in the midst of another block, which must not be committed without this one
            return None
        was_closed = connection.closed_in_transaction
        handled = end(self, exc_type, exc_value, traceback)
        if was_closed and exc_type is None and not connection.in_atomic_block:
            raise OperationalError(CLOSED)
        return handled

    return end_its_own

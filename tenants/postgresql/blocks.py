"""The blocks of Django and django-tenants, which end no more than they have begun.

A generator that nobody finishes leaves its blocks when it is collected: in any thread, whomever that serves by then.
There it must not bind, commit or roll back anything. And threads may share a block, as one that decorates a function is
shared, so what was bound before is kept in the context, where django-tenants keeps it in the block.

This leans on parts of Django and django-tenants that are not documented. tests/tenants/test_private_api.py fails when
one goes away.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from django.db import OperationalError
from django.db.transaction import Atomic, TransactionManagementError, get_connection
from django_tenants.models import TenantMixin
from django_tenants.utils import schema_context, tenant_context

from tenants import binding

GONE = (
    "The connection was replaced inside of this atomic() block. What was written before that is not committed; what "
    "was written after it is."
)
CLOSED = "The connection was closed inside of this atomic() block. Nothing of it is committed."

Exit = Callable[..., bool | None]


class _Entered(NamedTuple):
    """A block that binds a tenant, whom it serves, and what was bound before it."""

    block: Any
    owner: binding.Owner | None
    before: Any


# Those that this context is in
_entered: ContextVar[tuple[_Entered, ...]] = ContextVar("tenantry_entered", default=())


def keep_blocks_apart() -> None:
    """For all blocks from now on."""
    for context, enter in (
        (schema_context, schema_context.__enter__),
        (tenant_context, tenant_context.__enter__),
        (TenantMixin, _activate),
    ):
        context.__enter__ = _entering(enter)
        context.__exit__ = _leave
    atomic: Any = Atomic
    atomic.__exit__ = _ending_its_own(atomic.__exit__)


def _activate(tenant: TenantMixin) -> TenantMixin:
    tenant.activate()
    return tenant


def _entering(enter: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def enter_here(self: Any) -> Any:
        before = binding.bound_tenant()
        entered = enter(self)
        _entered.set((*_entered.get(), _Entered(self, binding.current_owner(), before)))
        return entered

    return enter_here


def _leave(self: Any, *exception: Any) -> None:
    *outer, last = _entered.get() or (None,)
    if last is not None and last.block is self:  # else it is left somewhere else
        _entered.set(tuple(outer))
        if not binding.serves_another(last.owner):
            binding.bind(last.before)


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

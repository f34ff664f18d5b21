"""The blocks of Django and django-tenants, which end no more than they have begun.

A generator that nobody finishes leaves its blocks when it is collected: in any thread, whomever that serves by then.
There it must not bind, commit or roll back anything. And threads may share a block, as one that decorates a function is
shared, so what was bound before is kept in the context, where django-tenants keeps it in the block.

This leans on parts of Django and django-tenants that are not documented. tests/tenants/test_private_api.py fails when
one goes away.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, NamedTuple

from django.db import InternalError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic, TransactionManagementError, get_connection
from django_tenants.models import TenantMixin
from django_tenants.utils import schema_context, tenant_context

from tenants import binding
from tenants.postgresql.messages import ENDED_INSIDE, TransactionOfOne

GONE = (
    "The connection was replaced inside of this atomic() block. What was written before that is not committed; what "
    "was written after it is."
)
CLOSED = "The connection was closed inside of this atomic() block. Nothing of it is committed."
OUT_OF_ORDER = (
    "This atomic() block was left before another one that had begun in it, that of a generator say. Nothing of it is "
    "committed, nor of the blocks around it."
)
# A frame of one is suspended at each `yield`
GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

Exit = Callable[..., bool | None]


class _Entered(NamedTuple):
    """A block that binds a tenant, whom it serves, and what was bound before it."""

    block: Any
    owner: binding.Owner | None
    before: Any


# What a soft time limit must not tear apart
_ways_in_and_out: set[CodeType] = {BaseDatabaseWrapper.set_autocommit.__code__}
# Those that this context is in
_entered: ContextVar[tuple[_Entered, ...]] = ContextVar("tenantry_entered", default=())


def is_between_blocks(frame: FrameType | None) -> bool:
    """Whether this is in the midst of entering or leaving a block: half entered or half left, it would stay so."""
    while frame is not None and frame.f_code is not BaseDatabaseWrapper.run_and_clear_commit_hooks.__code__:
        if frame.f_code in _ways_in_and_out:
            return True
        frame = frame.f_back
    return False


def keep_blocks_apart() -> None:
    """For all blocks from now on."""
    for context, enter in (
        (schema_context, schema_context.__enter__),
        (tenant_context, tenant_context.__enter__),
        (TenantMixin, _activate),
    ):
        context.__enter__ = _entering(enter)
        context.__exit__ = _leave
        _ways_in_and_out.update((context.__enter__.__code__, _leave.__code__))
    _ways_in_and_out.update((TransactionOfOne.__enter__.__code__, TransactionOfOne.__exit__.__code__))
    atomic: Any = Atomic
    atomic.__exit__ = _ending_its_own(atomic.__exit__)
    _ways_in_and_out.update((atomic.__enter__.__code__, atomic.__exit__.__code__))


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
    entered = _entered.get()
    here = max((number for number, each in enumerate(entered) if each.block is self), default=None)
    if here is None:
        return  # it is left somewhere else, or went with a block around it
    left, inner = entered[here], entered[here + 1 :]
    if inner and _is_a_generators(sys._getframe(1), *exception):
        # The blocks that others have entered since then go on, and the first of them restores what this one would.
        inner = (inner[0]._replace(before=left.before), *inner[1:])
        _entered.set((*entered[:here], *inner))
    else:
        # Those that are left over in it are of generators which nobody has finished.
        _entered.set(entered[:here])
        if not binding.serves_another(left.owner):
            binding.bind(left.before)


def _is_a_generators(frame: FrameType, exc_type: Any = None, *error: Any) -> bool:
    """Whether a block is left by a generator, which may go on or be collected in the midst of its caller's blocks."""
    if exc_type is GeneratorExit:
        return True
    while _is_contextlib(frame) and frame.f_back:
        frame = frame.f_back
    # That of @contextmanager is left where its caller's block is.
    return bool(frame.f_code.co_flags & GENERATOR) and not _is_contextlib(frame.f_back)


def _is_contextlib(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename == contextlib.__file__


def _ending_its_own(end: Exit) -> Exit:
    def end_its_own(self: Any, exc_type: Any, exc_value: Any, traceback: Any) -> bool | None:
        if self._from_testcase:
            return end(self, exc_type, exc_value, traceback)
        connection: Any = get_connection(self.using)
        blocks = connection.atomic_blocks
        if not (blocks and blocks[-1] is self):
            is_gone = not any(block is self for block in blocks)
            if not is_gone:
                _end_out_of_order(self, connection)
            if exc_type is None:
                raise TransactionManagementError(GONE if is_gone else OUT_OF_ORDER)
            return None
        was_closed = connection.closed_in_transaction
        was_ended = getattr(connection.connection, "has_ended", False)  # other backends know nothing of it
        handled = end(self, exc_type, exc_value, traceback)
        if exc_type is None and not connection.in_atomic_block:
            # Where an error of a savepoint was swallowed, Django rolls back and says nothing.
            if was_closed:
                raise OperationalError(CLOSED)
            if was_ended:
                raise InternalError(ENDED_INSIDE)
        return handled

    return end_its_own


def _end_out_of_order(block: Atomic, connection: Any) -> None:
    """End none of the blocks that have begun in this one, which must not be committed without it."""
    connection.close()
    connection.atomic_blocks[:] = [each for each in connection.atomic_blocks if each is not block]
    if connection.savepoint_ids:  # one for each block but the outermost
        connection.savepoint_ids.pop()

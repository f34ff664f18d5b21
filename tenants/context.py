"""A context for an owner: what it sets there, the next one does not find."""

import decimal
from contextvars import Context, copy_context


def copy_clean_context() -> Context:
    """A copy of this context. What it sets and changes there stays there."""
    context = copy_context()
    # The arithmetic of `decimal` is an object that a body changes in place; a copied context would share it.
    context.run(lambda: decimal.setcontext(decimal.getcontext().copy()))
    return context

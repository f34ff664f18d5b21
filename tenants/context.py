"""A context for an owner: what it sets there, the next one does not find."""

import decimal
from contextvars import Context, copy_context

from django.core.cache import caches


def copy_clean_context() -> Context:
    """A copy of this context. What it sets and changes there stays there."""
    # Django keeps a cache's client in the context, and would connect anew for each owner.
    for alias in caches:
        caches[alias]
    context = copy_context()
    # The arithmetic of `decimal` is an object that a body changes in place; a copied context would share it.
    context.run(lambda: decimal.setcontext(decimal.getcontext().copy()))
    return context

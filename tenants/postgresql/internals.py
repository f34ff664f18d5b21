"""Undocumented parts of Django's connections and models that the product uses.

tests/tenants/test_private_api.py fails when one of them goes away.
"""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model


def skip_health_check(connection: BaseDatabaseWrapper) -> None:
    """Make Django send no health check before the next statement, which serves as one."""
    wrapper: Any = connection  # the stubs lack the attribute
    wrapper.health_check_done = True


def is_broken(connection: BaseDatabaseWrapper) -> bool:
    """Whether the connection is broken and no transaction was open on it, so that a new one can take its place."""
    return not connection.in_atomic_block and not connection.is_usable()


def untranslated_verbose_name(model: type[Model]) -> str:
    """The model's verbose name as Django writes it into the names of permissions, whatever language is active."""
    options: Any = model._meta
    return str(options.verbose_name_raw)

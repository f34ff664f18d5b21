"""Django's cache of content types, kept apart by tenant. It is no documented part of Django.

tests/tenants/test_private_api.py fails when it goes away.
"""

from typing import Any

from django.contrib.contenttypes.models import ContentTypeManager

from tenants.binding import content_types


class ContentTypesOfTenant:
    """Django's cache of content types, whose ids differ between schemas: for each binding of a tenant its own."""

    def __get__(self, manager: Any, owner: type[Any]) -> dict[str, Any]:
        """The cache of this manager's model."""
        return content_types().setdefault(manager.model, {})

    def __set__(self, manager: Any, cache: dict[str, Any]) -> None:
        """Nothing: a manager is made with an empty one."""


def keep_content_types_apart() -> None:
    """Let no tenant get the content types of another from Django's cache, which all threads share."""
    manager: Any = ContentTypeManager
    manager._cache = ContentTypesOfTenant()

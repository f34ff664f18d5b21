"""The ids of our rows."""

import uuid

from django.urls import register_converter
from django.urls.converters import UUIDConverter
from uuid_utils.compat import uuid7


def new_id() -> uuid.UUID:
    """A new UUIDv7. Ids sort by the time of their making, and an id of one tenant names nothing in another's schema."""
    return uuid7()


class IdConverter(UUIDConverter):
    """An id in an address, `<id:pk>`. Django's own takes lower case alone; some clients write UUIDs in capitals."""

    regex = f"(?i:{UUIDConverter.regex})"


register_converter(IdConverter, "id")

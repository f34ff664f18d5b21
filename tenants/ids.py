"""The ids of our rows."""

import uuid

from uuid_utils.compat import uuid7


def new_id() -> uuid.UUID:
    """A new UUIDv7. Ids sort by the time of their making, and an id of one tenant names nothing in another's schema."""
    return uuid7()

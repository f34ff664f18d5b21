"""The times that a caller or a body may name for a job: Python and PostgreSQL can hold them in every time zone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

#: A day or more from what `datetime` can hold, and before the year 9999, in which rows of inactive tenants are parked.
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9998, 12, 31, tzinfo=UTC)


def moment(value: Any, name: str) -> datetime:
    """A time with a zone, or ISO 8601 text of one, in UTC. Raises TypeError, and ValueError if it is out of bounds."""
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
        aware = time.utcoffset() is not None
    except (TypeError, ValueError):
        aware = False
    if not aware:
        raise TypeError(f"`{name}` is a datetime with a time zone, such as django.utils.timezone.now().")
    try:
        time = time.astimezone(UTC)
    except OverflowError:
        time = datetime.max.replace(tzinfo=UTC)
    if not EARLIEST <= time <= LATEST:
        raise ValueError(f"`{name}` is a time between {EARLIEST.date()} and {LATEST.date()}, which all zones have.")
    return time


def seconds(value: Any, name: str) -> timedelta:
    """A number of seconds. Raises TypeError, and ValueError if it is negative or ends too late, counted from now."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` is a number of seconds, and not {type(value).__name__}.")
    longest = (LATEST - datetime.now(UTC)).total_seconds()
    if not 0 <= value <= longest:
        raise ValueError(f"`{name}` is a number of seconds from 0 to {longest:.0f}, at the end of {LATEST.year}.")
    return timedelta(seconds=value)


def _text(value: Any) -> Any:
    # A link of the release before has its times in an envelope of Celery's.
    return value.get("__value__") if isinstance(value, Mapping) else value

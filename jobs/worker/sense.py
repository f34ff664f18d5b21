"""Whether a message makes sense: what Celery's worker takes for granted of one, here or later, in its parent's loop."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from jobs.message import is_durable

#: Characters of an id or a task's name: the columns that hold results take no more.
MAX_TEXT = 255
#: Retries grow exponentially apart, and Celery computes the power first.
MAX_RETRIES = 1_000_000
MAX_LIMIT = timedelta(days=36525)

# Each may be missing, or None.
HEADERS: dict[str, type] = {
    "root_id": str,
    "parent_id": str,
    "group": str,
    "group_index": int,
    "retries": int,
    "shadow": str,
    "argsrepr": str,
    "kwargsrepr": str,
    "stamped_headers": list,
    "stamps": dict,
    "replaced_task_nesting": int,
}
EMBEDDED: dict[str, type] = {"callbacks": list, "errbacks": list, "chain": list, "chord": dict}


class Malformed(ValueError):
    """A message that nobody can run. It is dropped: it would be as senseless to the next worker."""


def check(message: Any) -> None:
    """Raise Malformed unless a task can be made of the message. It asks nothing of a server."""
    try:
        _check(message)
    except Exception as error:
        raise Malformed(f"{type(error).__name__}: {error}") from error


def _check(message: Any) -> None:
    headers, payload = message.headers, message.payload
    if "task" in headers:
        args, kwargs, embedded = payload
        fields = headers
    else:  # protocol 1
        args, kwargs, embedded = payload.get("args", []), payload.get("kwargs", {}), payload
        fields = payload
    _expect("args", args, list | tuple)
    _expect("kwargs", kwargs, dict)
    _expect_all(embedded or {}, EMBEDDED)
    _check_names(fields)
    _expect_all(fields, HEADERS)
    for stamp in fields.get("stamped_headers") or []:
        _expect("stamped_headers", stamp, str)
    _check_numbers(fields)


def _check_names(fields: Mapping[str, Any]) -> None:
    for name in ("id", "task"):
        _expect(name, fields[name], str)
        if not 0 < len(fields[name]) <= MAX_TEXT or not fields[name].isprintable():
            raise ValueError(f"{name} is {len(fields[name])} characters long, or not printable")
    if is_durable(fields):
        uuid.UUID(fields["id"])


def _check_numbers(fields: Mapping[str, Any]) -> None:
    if not 0 <= (fields.get("retries") or 0) <= MAX_RETRIES:
        raise ValueError("retries are out of range")
    limits: Sequence[float | None] = fields.get("timelimit") or (None, None)
    hard, soft = limits
    for limit in (hard, soft):
        if limit is not None and not timedelta() <= timedelta(seconds=limit) <= MAX_LIMIT:
            raise ValueError("timelimit is out of range")


def _expect_all(fields: Mapping[str, Any], types: Mapping[str, type]) -> None:
    for name, kind in types.items():
        if fields.get(name) is not None:
            _expect(name, fields[name], kind)


def _expect(name: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is of type {type(value).__name__}")

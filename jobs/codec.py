"""A durable job's arguments, links and result, as the text that a row keeps: plain JSON.

What is written is equal to what is read, except that a tuple becomes a list, and a subclass of a plain type (a member
of TextChoices, say) that type.
"""

import json
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from django.db.models import Model
from kombu.utils.json import loads as loads_of_celery

#: How a row's arguments are written: by the release before, with types of Celery's own, and since then.
CELERY, PLAIN = 0, 1
MAX_DEPTH = 100
MAX_LENGTH = 1_000_000
SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

REMEDIES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((UUID, Decimal), "pass str(value)"),
    ((datetime, date, time), "pass value.isoformat()"),
    (timedelta, "pass value.total_seconds()"),
    (Enum, "pass value.value"),
    (Model, "pass its primary key, as text"),
    ((bytes, bytearray, memoryview), "pass value.decode() or value.hex()"),
    ((set, frozenset), "pass sorted(value)"),
)


def encode(value: Any, *, what: str = "A durable job's arguments") -> str:
    """JSON text of a value, in ASCII. Raises TypeError, which names the remedy, for what JSON can't keep as it is."""
    try:
        _check(value, depth=0)
        text = json.dumps(value)
    except (TypeError, ValueError) as error:  # ValueError: an integer of too many digits
        raise TypeError(f"{what} must be plain JSON: {error}.") from error
    if len(text) > MAX_LENGTH:
        raise TypeError(
            f"{what} must be small, and this is JSON of {len(text)} characters (at most {MAX_LENGTH}): "
            "keep it in a table, and pass its id."
        )
    return text


def encode_result(value: Any) -> str:
    """JSON text of what a body returns. Raises TypeError for lone surrogates, too: the API could not show them."""
    text = encode(value, what="A durable job's result")
    if "\\ud" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise TypeError(
                f"A durable job's result must be Unicode: {error}. Return value.encode(errors='replace').decode()."
            ) from error
    return text


def encode_links(signatures: list[Any]) -> str:
    """JSON text of signatures, whose arguments `encode` takes. The times in their options become ISO 8601."""
    return json.dumps(signatures, default=datetime.isoformat)


def decode(text: str, codec: int = PLAIN) -> Any:
    """The value of a row's text. Raises ValueError, or what Celery's types raise, if somebody else has changed it."""
    if codec == CELERY:
        return loads_of_celery(text)
    if codec != PLAIN:
        raise ValueError(f"A later release wrote this row, by codec {codec}: run the job again when that is deployed.")
    return json.loads(text)


def _check(value: Any, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TypeError(f"it is nested deeper than {MAX_DEPTH} levels, or holds itself; pass an id instead")
    match value:
        case None | bool() | int():
            return
        case str():
            _check_text(value)
        case float():
            if not isfinite(value):
                raise TypeError(f"it has no {float(value)}; pass None")
        case list() | tuple():
            for item in value:
                _check(item, depth=depth + 1)
        case dict():
            _check_dict(value, depth=depth)
        case _:
            raise TypeError(f"it has no {type(value).__name__}; {_remedy(value)}")


def _check_dict(value: dict[Any, Any], *, depth: int) -> None:
    if type(value) is not dict and dict(value.items()) != value:
        raise TypeError(f"a {type(value).__name__} shows other items than it holds; pass dict(value)")
    for key, item in value.items():
        if not isinstance(key, str):
            raise TypeError(f"its keys are text, and one is {type(key).__name__}; pass str(key)")
        _check_text(key)
        _check(item, depth=depth + 1)


def _check_text(value: str) -> None:
    if not value.isascii() and SPLIT_PAIR.search(value):
        raise TypeError(
            "it has a character in two surrogates, which JSON joins; "
            "pass value.encode('utf-16', 'surrogatepass').decode('utf-16')"
        )


def _remedy(value: Any) -> str:
    if isinstance(value, Mapping):
        return "pass dict(value)"
    return next((remedy for types, remedy in REMEDIES if isinstance(value, types)), "pass ids and plain values")

"""JSON as the API takes it: UTF-8, no name twice in an object, no NaN."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import JSONParser

REPEATED = [ErrorDetail("This name stands twice in its object.", "repeated")]


class Repetitive(dict[str, Any]):
    """An object in which names stand more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        times = Counter(name for name, _ in pairs)
        self.repeated = [name for name in times if times[name] > 1]


class StrictJSONParser(JSONParser):
    """DRF's, which also refuses what two programs may read in two ways. config/bodies.py bounds what it reads."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Raises ParseError for what is no JSON, ValidationError for names that stand twice."""
        try:
            data = json.loads(stream.read().decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
            errors = dict(_repetitions(data))
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"This is no JSON: {error}") from error
        if errors:
            raise ValidationError(errors)
        return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else Repetitive(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is JavaScript's")


def _repetitions(data: Any) -> Iterator[tuple[Any, Any]]:
    """Errors as DRF nests them: by field, or by index of a list."""
    if isinstance(data, Repetitive):
        yield from ((name, REPEATED) for name in data.repeated)
    elif isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            if inner := dict(_repetitions(value)):
                yield key, inner

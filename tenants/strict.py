"""What a serializer takes of a body: the fields that it knows, in the JSON types that the schema names."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from drf_spectacular.extensions import OpenApiSerializerExtension
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from tenants.text import MAX_EMAIL_LENGTH, normalize_email, normalize_name, normalize_new_email

#: Fields of one object that an answer names as unknown. A body of 1 MiB may have a hundred thousand, and each takes
#: DRF longer to tell than to read.
MAX_UNKNOWN = 20
# DRF takes "12", 12.0 and true for the integers 12, 12 and 1, and 12 for a string.
JSON_TYPES: list[tuple[type[serializers.Field[Any, Any, Any, Any]], type, str]] = [
    (serializers.BooleanField, bool, "true or false, without quotes"),
    (serializers.IntegerField, int, "an integer without quotes, point or exponent, such as 12"),
    (serializers.CharField, str, "a string"),
    (serializers.UUIDField, str, "a string"),
]


# The base of each serializer that takes a body; DRF's ModelSerializer comes after it, where there is a model. It has no
# docstring, because the schema would show it as the description of each.
class StrictSerializer(serializers.Serializer[Any]):
    default_error_messages = {"invalid": "Give an object."}  # noqa: RUF012  # as in DRF

    def to_internal_value(self, data: Any) -> Any:
        """DRF's, which also refuses unknown fields, fields that can't be set, and values of another JSON type."""
        errors = self._unknown(data) | self._mistyped(data) if isinstance(data, Mapping) else {}
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            raise ValidationError({**error.detail, **errors}) from error  # type: ignore[dict-item]  # it is a dict
        if errors:
            raise ValidationError(errors)
        return value

    def _unknown(self, data: Mapping[str, Any]) -> dict[str, Any]:
        writable = self._writable()
        there_are = f"there are: {', '.join(writable)}" if writable else "there are none here"
        unknown = ErrorDetail(f"There is no such field; {there_are}.", "unknown_field")
        read_only = ErrorDetail("This field can't be set.", "read_only")
        names = islice((name for name in data if name not in writable), MAX_UNKNOWN)
        return {name: [read_only if name in self.fields else unknown] for name in names}

    def _mistyped(self, data: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: field for name, field in self._writable().items() if data.get(name) is not None}
        wrong = {name: _wanted(field, data[name]) for name, field in given.items()}
        return {name: [ErrorDetail(f"Give {wanted}.", "wrong_type")] for name, wanted in wrong.items() if wanted}

    def _writable(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {name: field for name, field in self.fields.items() if not field.read_only}


def _wanted(field: serializers.Field[Any, Any, Any, Any], value: Any) -> str:
    """What the field wants instead of the value, in words, or "" if the value is of its JSON type."""
    for kind, json_type, words in JSON_TYPES:
        if isinstance(field, kind):
            # A bool is an int in Python, and none in JSON.
            return "" if type(value) is json_type else words
    return ""


class ChoiceField(serializers.ChoiceField):
    """One of a few words, which a refusal lists."""

    def __init__(self, choices: Any, **kwargs: Any) -> None:
        told: dict[str, Any] = {"invalid_choice": f"Give one of {', '.join(value for value, _ in choices)}."}
        super().__init__(choices, error_messages=told, **kwargs)


class LineField(serializers.CharField):
    """A text of one line, in the form in which it is stored."""

    def to_internal_value(self, data: Any) -> str:
        return _normalized(normalize_name, super().to_internal_value(data))


class NameField(LineField):
    """The name of a person or an organisation."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=200, **kwargs)


class EmailField(serializers.EmailField):
    """An e-mail address, in the form in which it is compared, stored and sent to."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_EMAIL_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return _normalized(normalize_email, super().to_internal_value(data))


class NewEmailField(EmailField):
    """One that is going to be stored: a plain one at a domain. Rows of before may have others."""

    def to_internal_value(self, data: Any) -> str:
        return _normalized(normalize_new_email, super().to_internal_value(data))


def _normalized(normalize: Any, text: str) -> str:
    try:
        normal: str = normalize(text)
    except DjangoValidationError as error:
        raise ValidationError([ErrorDetail(message, error.code) for message in error.messages]) from error
    return normal


class StrictSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # registers itself
    """Tells the schema that other fields are refused, and how long a list may be."""

    target_class = StrictSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """As drf-spectacular has it."""
        # What the extension maps without us. The instance knows whether it takes a part of the fields, as for a PATCH.
        self.target_class = self.target
        schema: dict[str, Any] = super().map_serializer(auto_schema, direction)
        if direction == "request":
            schema["additionalProperties"] = False
        for name, field in self.target.fields.items():
            if isinstance(field, serializers.ListSerializer) and name in schema["properties"]:
                schema["properties"][name] |= _limits(field)
        return schema


def _limits(field: Any) -> dict[str, int]:
    limits = {"minItems": field.min_length, "maxItems": field.max_length}
    return {name: limit for name, limit in limits.items() if limit is not None}

"""Filters that take what the schema says and nothing else."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django_filters import rest_framework as filters

# RFC 3339
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# No clock on earth is further from UTC, and PostgreSQL takes no more than 15:59.
MAX_OFFSET = timedelta(hours=14)


class TimeField(forms.Field):
    """A date-time of RFC 3339, in UTC."""

    default_error_messages = {  # noqa: RUF012  # as in Django
        "invalid": "Give a date-time with its zone, such as 2026-11-25T00:00:00Z. Write the + of an offset as %(plus)s."
    }

    def to_python(self, value: str | None) -> datetime | None:
        """The instant, or None for no value. Raises ValidationError for anything but a date-time with its zone."""
        if not value:
            return None
        refusal = ValidationError(self.error_messages["invalid"], code="invalid", params={"plus": "%2B"})
        if not DATE_TIME.fullmatch(value):
            raise refusal
        try:
            time = datetime.fromisoformat(value.upper())
            offset = time.utcoffset()
            if offset is None or abs(offset) > MAX_OFFSET:
                raise refusal
            return time.astimezone(UTC)
        except (ValueError, OverflowError):  # 30 February; the year 1 in Auckland
            raise refusal from None


class TimeFilter(filters.IsoDateTimeFilter):
    """For `<what>_after` and `<what>_before`, which include the instant itself."""

    field_class = TimeField


class IdField(forms.UUIDField):
    """An id as the API writes them: Python's UUID would take braces, other digits and no hyphens, too."""

    def to_python(self, value: Any) -> Any:
        """The UUID, or None for no value. Raises ValidationError for anything else."""
        if value and not ID.fullmatch(value):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


class IdFilter(filters.UUIDFilter):
    """An id, in its usual spelling."""

    field_class = IdField


class ChoiceFilter(filters.ChoiceFilter):
    """One of a few words, which a refusal lists."""

    def __init__(self, *, choices: Any, **kwargs: Any) -> None:
        told = {"invalid_choice": f"Give one of {', '.join(value for value, _ in choices)}."}
        super().__init__(choices=choices, error_messages=told, **kwargs)


class TimesFilterSet(filters.FilterSet):
    """For a list whose rows have `created_at` and `updated_at`."""

    created_after = TimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = TimeFilter(field_name="created_at", lookup_expr="lte")
    updated_after = TimeFilter(field_name="updated_at", lookup_expr="gte")
    updated_before = TimeFilter(field_name="updated_at", lookup_expr="lte")

    @classmethod
    def filter_for_lookup(cls, field: Any, lookup_type: str) -> tuple[Any, dict[str, Any]]:
        """As django-filter has it, with our filter for fields that have choices."""
        kind, parameters = super().filter_for_lookup(field, lookup_type)
        return (ChoiceFilter if kind is filters.ChoiceFilter else kind), parameters

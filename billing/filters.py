from typing import Any

from django.core.exceptions import ValidationError
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema_field

from billing.currencies import CURRENCIES, unknown_currency


def validate_currency(code: str) -> None:
    """Raise ValidationError for what is no code of CURRENCIES."""
    if code not in CURRENCIES:
        raise ValidationError(unknown_currency(code), code="invalid")


@extend_schema_field({"type": "string", "enum": sorted(CURRENCIES)})
class CurrencyFilter(filters.CharFilter):
    """A currency that an order may be in, spelt as there."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validators=[validate_currency], strip=False, **kwargs)

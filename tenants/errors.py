"""What services raise, and how a view names it. config/problems.py renders it."""

from collections.abc import Callable
from typing import TypeVar

from django.db import IntegrityError
from rest_framework.exceptions import APIException


class Conflict(APIException):
    """The request is valid, but the present state does not allow what it asks for."""

    status_code = 409
    default_code = "conflict"
    default_detail = "That can't be done in the present state."


def violated_constraint(error: IntegrityError) -> str:
    """The name of the constraint that refused the row, or "" if PostgreSQL named none."""
    diagnostics = getattr(error.__cause__, "diag", None)
    return getattr(diagnostics, "constraint_name", None) or ""


Action = TypeVar("Action", bound=Callable[..., object])


def answers(*codes: str) -> Callable[[Action], Action]:
    """Tell the schema of codes that this method of a view may answer with, beside those that config/openapi.py adds.

    What every request can meet, and what follows from the host, the token or the Idempotency-Key, is added there.
    """

    def mark(action: Action) -> Action:
        action.codes = codes  # type: ignore[attr-defined]  # an attribute of our own
        return action

    return mark

"""What services raise. config/problems.py renders it."""

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

"""What a new password must be, and how many may be set."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.password_validation import (
    MinimumLengthValidator,
    get_default_password_validators,
    validate_password,
)
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import MinLengthValidator, RegexValidator
from rest_framework.exceptions import ErrorDetail, Throttled, ValidationError

from accounts.models import User
from limits.rates import count, give_back, longest_wait, tell
from tenants.connection import connection

WEAK = "weak_password"
BLANK = "A password holds more than spaces."


class NotBlankValidator:
    """One of AUTH_PASSWORD_VALIDATORS: a password holds more than spaces."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        """Raise Django's ValidationError for a blank password."""
        if not password.strip():
            raise DjangoValidationError(BLANK, code=WEAK)

    def get_help_text(self) -> str:
        return BLANK


def minimum_length() -> int:
    """In characters, by AUTH_PASSWORD_VALIDATORS. Whatever these say, a password is not empty."""
    validators = get_default_password_validators()
    return max((each.min_length for each in validators if isinstance(each, MinimumLengthValidator)), default=1)


class LengthValidator(MinLengthValidator):
    """Of a field."""

    code = WEAK


#: Of a password as it is sent. Validators of a field are what the schema tells.
OF_FIELD = (
    LengthValidator(minimum_length, "A password has at least %(limit_value)d characters."),
    RegexValidator(r"\S", BLANK, WEAK),
)


def check_new_password(password: str, user: User) -> None:
    """Raise DRF's ValidationError, about the field `password`, for one that the user may not have."""
    try:
        validate_password(password, user)
    except DjangoValidationError as error:
        details = [ErrorDetail(message, WEAK) for message in error.messages]
        raise ValidationError({"password": details}) from error


@contextmanager
def password_quota(user: User, *, request: Any = None) -> Iterator[None]:
    """Count the password that the block hashes for this user, by user and by organisation. One that the block refuses
    to hash does not count.

    Raises Throttled if either has set as many as they may. Then the block does not run, and nothing counts. Of many at
    once no more pass than may: each counts before its block runs.
    """
    owners = {"user_password": str(user.pk), "password": connection.schema_name}
    counted = count(owners)
    if (wait := longest_wait(counted)) is not None:
        give_back(owners)
        tell(request, counted)
        raise Throttled(wait, detail="Too many passwords were set.")
    try:
        yield
    except BaseException:
        give_back(owners)
        raise
    tell(request, counted)

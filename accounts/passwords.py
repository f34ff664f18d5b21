"""What a new password must be."""

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.models import User


class NotBlankValidator:
    """One of AUTH_PASSWORD_VALIDATORS: a password holds more than spaces."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        """Raise Django's ValidationError for a blank password."""
        if not password.strip():
            raise DjangoValidationError(self.get_help_text(), code="weak_password")

    def get_help_text(self) -> str:
        return "A password holds more than spaces."


def check_new_password(password: str, user: User) -> None:
    """Raise DRF's ValidationError, about the field `password`, for one that the user may not have."""
    try:
        validate_password(password, user)
    except DjangoValidationError as error:
        details = [ErrorDetail(message, "weak_password") for message in error.messages]
        raise ValidationError({"password": details}) from error

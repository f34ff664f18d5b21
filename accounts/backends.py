"""How Django checks a password, whoever asks: the API, the admin, code of yours."""

from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import BaseBackend

from accounts.logins import limit_log_in
from accounts.password_backend import PasswordBackend


class LimitedBackend(PasswordBackend):
    """Our own check of a password, behind the limits of accounts/logins.py."""

    def authenticate(
        self,
        request: Any,
        username: str | None = None,
        password: str | None = None,
        one_time_password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """As Django's. Raises DRF's Throttled, and has hashed nothing then, if the log-in has to wait."""
        account = kwargs.get(get_user_model().USERNAME_FIELD) if username is None else username
        if account is None or password is None:
            return None
        # A try that has one factor right has failed: it neither counts less, nor makes its address known.
        factors = {"password": password, "one_time_password": one_time_password}
        check = partial(super().authenticate, request, username=account, **factors)
        return limit_log_in(check, account=account, request=request)

    #: Django's own would bypass the limits.
    aauthenticate: Any = BaseBackend.aauthenticate

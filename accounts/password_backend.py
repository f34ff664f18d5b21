from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest

from accounts.models import User
from accounts.second_factor import verify_code


class PasswordBackend(ModelBackend):
    """Django's, for which an unknown e-mail takes as long as a wrong password, also if that is tried in two forms.

    With a `one_time_password`, which may be empty, it takes both: the log-in of staff.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        one_time_password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        email = username or kwargs.get(User.USERNAME_FIELD)
        if email is None or password is None:
            return None
        try:
            user = User.objects.get_by_natural_key(email)
        except User.DoesNotExist:
            user = User(password=make_password(None))
        if not (user.check_password(password) and self.user_can_authenticate(user)):
            return None
        return user if one_time_password is None else _verified(user, one_time_password)


def _verified(user: Any, code: str) -> Any:
    # django-otp notes the device in the session that begins now.
    user.otp_device = verify_code(user, code)
    return None if user.otp_device is None else user

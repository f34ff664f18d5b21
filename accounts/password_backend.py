from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest

from accounts.models import User


class PasswordBackend(ModelBackend):
    """Django's, for which an unknown e-mail takes as long as a wrong password, also if that is tried in two forms."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        email = username or kwargs.get(User.USERNAME_FIELD)
        if email is None or password is None:
            return None
        try:
            user = User.objects.get_by_natural_key(email)
        except User.DoesNotExist:
            user = User(password=make_password(None))
        return user if user.check_password(password) and self.user_can_authenticate(user) else None

from knox.models import AuthToken
from rest_framework.request import Request

from accounts.models import User


class UserRequest(Request):
    """A request with a token, whose user `BearerAuthentication` has found."""

    user: User
    auth: AuthToken

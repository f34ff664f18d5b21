from knox.models import AuthToken
from rest_framework.request import Request

from accounts.models import User


class UserRequest(Request):
    """A request that has passed `BearerAuthentication` and `IsAuthenticated`."""

    user: User
    auth: AuthToken

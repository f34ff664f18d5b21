"""DRF permissions by the role of the user."""

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import User


class IsOwner(BasePermission):
    """Allow owners of the organisation only."""

    message = "Only an owner of the organisation may do that."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return getattr(request.user, "role", None) == User.Role.OWNER

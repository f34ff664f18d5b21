"""DRF's throttle, for all views: how often a user and an organisation may ask. config/limits.py counts addresses."""

from collections.abc import Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from limits.addresses import client_network
from limits.rates import count_request, longest_wait
from tenants.connection import connection


class Throttle(BaseThrottle):
    """Counts a request of a user, whose token is known to be valid by now. Others count by their address."""

    def allow_request(self, request: Request, view: Any) -> bool:
        self._wait = longest_wait(count_request(request, _owners(request, view)))
        return self._wait is None

    def wait(self) -> int | None:
        return self._wait


def _owners(request: Request, view: Any) -> Mapping[str, str]:
    """Whom a request counts for, by policy. A view's `throttle_scope` is a policy of its own."""
    owners: dict[str, str] = {}
    if _is_user(request):
        owners["user"] = str(request.user.pk)
        owners["tenant"] = connection.schema_name
    if scope := getattr(view, "throttle_scope", None):
        owners[scope] = owners.get("user") or client_network(request)
    return owners


def _is_user(request: Request) -> bool:
    return bool(request.user and request.user.is_authenticated)

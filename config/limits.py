"""How often a client may ask, by its address, before anything is looked up; and what answers tell of all limits.

`RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-10. limits/rates.py counts.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import Throttled

from config.problems import render
from limits.addresses import client_network
from limits.rates import Counted, count_late, remembered

API = "/api/"


class LimitMiddleware:
    """Refuses an address that has used up its requests, whatever token it sends.

    It stands before the tenants' middleware: a refusal costs no query. A request counts for its address when it is
    answered, unless config/throttles.py has counted it for a user: many users may share an address.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        network = client_network(request)
        request.counted = remembered("address", network)  # limits/rates.py adds to it
        if request.counted:
            response = _too_many(Throttled(request.counted[0].reset))
        else:
            response = self.get_response(request)
            if not any(one.policy == "user" for one in request.counted):
                count_late(request, "address", network)
        if request.path_info.startswith(API):
            for name, value in rate_limits(request.counted).items():
                response.headers[name] = value
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Of views that are not DRF's: the admin's log-in."""
        return _too_many(exception) if isinstance(exception, Throttled) else None


def _too_many(refusal: Any) -> HttpResponse:
    response = render(429, code="throttled", detail=str(refusal.detail))
    response.headers["Retry-After"] = str(refusal.wait or 1)
    return response


def rate_limits(counted: list[Counted]) -> dict[str, str]:
    """The headers that tell what was counted of a request; none if nothing was."""
    if not counted:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{one.policy}";q={one.quota};w={one.window}' for one in counted),
        "RateLimit": ", ".join(f'"{one.policy}";r={one.remaining};t={one.reset}' for one in counted),
    }

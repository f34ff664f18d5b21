"""What HTTP says of an answer beside its body.

What a browser may do with it, whether the client has it already, who may keep it, and how often the client may ask.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.http import ConditionalGetMiddleware
from django.utils.cache import patch_vary_headers
from rest_framework.permissions import SAFE_METHODS

from config.throttles import rate_limits

API = "/api/"
#: What an answer of the API depends on, beside its address
VARY = ("Accept", "Authorization")
#: The pages that there are, docs and admin, run their own files alone. Swagger UI's style sheet has images inside.
CONTENT_SECURITY_POLICY = "Content-Security-Policy"
SECURITY = {
    # What does not say who may keep it is kept by nobody.
    "Cache-Control": "no-store",
    CONTENT_SECURITY_POLICY: (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # To another host, no address of ours goes along. To this one it does: the admin's forms need it.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityHeadersMiddleware:
    """Every answer has SECURITY, whichever middleware, view or handler made it. What that has set stays."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        for name, value in SECURITY.items():
            response.headers.setdefault(name, value)
        if settings.DEBUG and response.status_code == 500:
            # Django's page of the traceback has its style and script inside.
            del response.headers[CONTENT_SECURITY_POLICY]
        return response


class HeadersMiddleware(ConditionalGetMiddleware):
    """Who has an answer of the API already gets 304: by its ETag. `Cache-Control` makes caches ask.

    An answer to what changes something may hold a secret, such as a token or a link: no cache keeps it. Whoever is
    throttled sees by `RateLimit-Policy` and `RateLimit` how often they may ask.
    """

    def process_request(self, request: Any) -> None:
        request.counted = []  # config/throttles.py adds to it

    def process_response(self, request: Any, response: Any) -> HttpResponse:
        if not request.path_info.startswith(API):
            return response  # type: ignore[no-any-return]
        patch_vary_headers(response, VARY)
        kept = "private, no-cache" if request.method in SAFE_METHODS else "no-store"
        response.headers.setdefault("Cache-Control", kept)
        answer: Any = response
        if response.status_code == 200:
            answer = super().process_response(request, response)
        for name, value in rate_limits(request.counted).items():
            answer.headers[name] = value
        return answer  # type: ignore[no-any-return]

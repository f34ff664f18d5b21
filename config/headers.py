"""What HTTP says of an answer beside its body.

What a browser may do with it, whether the client has it already, and who may keep it.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.http import ConditionalGetMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.cache import patch_vary_headers
from rest_framework.permissions import SAFE_METHODS

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


class SecurityHeadersMiddleware(SecurityMiddleware):
    """Every answer has SECURITY, and HSTS over TLS, whichever middleware, view or handler made it. What that has set
    stays.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Lead nobody to TLS. Django's own does that, further in: not all requests need TLS."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response = super().process_response(request, response)
        for name, value in SECURITY.items():
            response.headers.setdefault(name, value)
        if settings.DEBUG and response.status_code == 500:
            # Django's page of the traceback has its style and script inside.
            del response.headers[CONTENT_SECURITY_POLICY]
        return response


class HeadersMiddleware(ConditionalGetMiddleware):
    """Who has an answer of the API already gets 304: by its ETag. `Cache-Control` makes caches ask.

    An answer to what changes something may hold a secret, such as a token or a link: no cache keeps it.
    """

    def process_response(self, request: Any, response: Any) -> Any:
        if not request.path_info.startswith(API):
            return response
        patch_vary_headers(response, VARY)
        kept = "private, no-cache" if request.method in SAFE_METHODS else "no-store"
        response.headers.setdefault("Cache-Control", kept)
        return super().process_response(request, response) if response.status_code == 200 else response

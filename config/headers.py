"""What HTTP says of an answer beside its body: whether the client has it already, and how often it may ask."""

from typing import Any

from django.http import HttpResponse
from django.middleware.http import ConditionalGetMiddleware
from django.utils.cache import patch_vary_headers

from config.throttles import rate_limits

API = "/api/"
#: What an answer of the API depends on, beside its address
VARY = ("Accept", "Authorization")


class HeadersMiddleware(ConditionalGetMiddleware):
    """Answers of the API have an ETag, and are 304 for a client that has the same; `Cache-Control` makes caches ask.

    Whoever is throttled sees by `RateLimit-Policy` and `RateLimit` how often they may ask.
    """

    def process_request(self, request: Any) -> None:
        request.counted = []  # config/throttles.py adds to it

    def process_response(self, request: Any, response: Any) -> HttpResponse:
        if not request.path_info.startswith(API):
            return response  # type: ignore[no-any-return]
        patch_vary_headers(response, VARY)
        answer: Any = response
        if response.status_code == 200:
            response.headers.setdefault("Cache-Control", "private, no-cache")
            answer = super().process_response(request, response)
        for name, value in rate_limits(request.counted).items():
            answer.headers[name] = value
        return answer  # type: ignore[no-any-return]

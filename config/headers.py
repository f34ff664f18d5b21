"""What HTTP says of an answer beside its body: whether the client has it already."""

from typing import Any

from django.middleware.http import ConditionalGetMiddleware
from django.utils.cache import patch_vary_headers

API = "/api/"
#: What an answer of the API depends on, beside its address
VARY = ("Accept", "Authorization")


class HeadersMiddleware(ConditionalGetMiddleware):
    """Answers of the API have an ETag, and are 304 for a client that has the same; `Cache-Control` makes caches ask."""

    def process_response(self, request: Any, response: Any) -> Any:
        if not request.path_info.startswith(API):
            return response
        patch_vary_headers(response, VARY)
        if response.status_code != 200:
            return response
        response.headers.setdefault("Cache-Control", "private, no-cache")
        return super().process_response(request, response)

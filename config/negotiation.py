import re
from typing import Any

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer

#: A weight of 0, by RFC 9110, 12.4.2
REFUSED = re.compile(r";\s*q=0(?:\.0*)?\s*(?:;|$)", re.IGNORECASE)


class ProblemRenderer(JSONRenderer):
    media_type = "application/problem+json"
    # A problem quotes the client, who may have sent half a character, which has no UTF-8.
    ensure_ascii = True


class Negotiation(DefaultContentNegotiation):
    """DRF's, for which a client that accepts problems accepts the API: an answer of its is one or the other."""

    def get_accept_list(self, request: Any) -> list[str]:
        """DRF's, without the types that the client refuses. DRF takes no weight into account."""
        return [accepted for accepted in super().get_accept_list(request) if not REFUSED.search(accepted)]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        """Raises NotAcceptable."""
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return self._accepting_problems(request, renderers)

    def _accepting_problems(self, request: Any, renderers: Any) -> Any:
        try:
            super().select_renderer(request, [ProblemRenderer()])
        except NotAcceptable:
            offered = ", ".join(renderer.media_type for renderer in renderers)
            raise NotAcceptable(f"The Accept header allows nothing that is offered here: {offered}.") from None
        return renderers[0], renderers[0].media_type

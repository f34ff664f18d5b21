"""`/schema/`: what the API is, as OpenAPI has it."""

import hashlib
import threading
from typing import Any, NamedTuple

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request


class Made(NamedTuple):
    """An answer that everybody gets."""

    content: bytes
    headers: dict[str, str]


#: By media type, of which the view has four. Of this process.
_made: dict[str, Made] = {}
_lock = threading.Lock()


class SchemaView(SpectacularAPIView):
    """The schema. Each process makes it once in each format, because that takes long. It is the same for everybody."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Read the schema."""
        media_type = request.accepted_renderer.media_type
        # Many who ask at once wait for the first.
        with _lock:
            if media_type not in _made:
                _made[media_type] = self._make(request)
        content, headers = _made[media_type]
        return HttpResponse(content, headers=headers)

    def _make(self, request: Request) -> Made:
        response: Any = super().get(request)  # type: ignore[no-untyped-call]  # drf-spectacular types it half
        renderer: Any = request.accepted_renderer
        content = renderer.render(response.data, renderer.media_type, {})
        charset = f"; charset={renderer.charset}" if renderer.charset else ""
        headers = {
            "Content-Type": f"{renderer.media_type}{charset}",
            "Content-Disposition": response["Content-Disposition"],
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        }
        return Made(content, headers)

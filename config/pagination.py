import re
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView

SIZE = re.compile(r"[1-9][0-9]{0,3}")


class Pages(CursorPagination):
    """Newest first. Ids are UUIDv7: they sort by time and, other than times, are never equal."""

    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 200
    cursor_query_description = "Of `next` or `previous`, as it is."

    def get_page_size(self, request: Request) -> int | None:
        """Raises ValidationError for a size that is no number from 1 to `max_page_size`. DRF would take its default."""
        asked = request.query_params.get(self.page_size_query_param)
        if asked is None:
            return self.page_size
        if not SIZE.fullmatch(asked) or int(asked) > self.max_page_size:
            raise ValidationError({self.page_size_query_param: [f"Give a number from 1 to {self.max_page_size}."]})
        return int(asked)

    def paginate_queryset(
        self, queryset: QuerySet[Any] | Sequence[Any], request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, DjangoValidationError, ValueError):  # no cursor, or one whose position is no id or number
            if self.cursor_query_param not in request.query_params:
                raise
            raise ValidationError({"cursor": ["Use `next` or `previous` of a page as it is."]}) from None

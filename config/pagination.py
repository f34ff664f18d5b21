"""Pages of lists. A page begins after a row, not after so many rows: what comes or changes meanwhile shifts none."""

import hashlib
import re
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs, urlencode

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Model, Q, QuerySet
from django.utils.dateparse import parse_datetime
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from tenants.changes import synced_until

SIZE = re.compile(r"[1-9][0-9]{0,3}")
EXAMPLE = "http://localhost:8000/api/v1/users/?cursor=cD0wMTlhYmM1Mg%3D%3D"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BAD_CURSOR = "Use `next` or `previous` of a page as it is: a cursor is of one list, its filters and its ordering."


class Cursor(NamedTuple):
    """Where a page begins: after a row, or before it. Without a position it is the list's first page, or its last."""

    #: The row's values of the fields of the ordering, as text
    position: tuple[str, ...] = ()
    backward: bool = False
    #: What the first page answered
    synced_until: datetime | None = None
    #: Of which list it is: a digest
    of: str = ""

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Raises ValueError for what `encode` did not make."""
        tokens = parse_qs(b64decode(text.encode("ascii"), validate=True).decode("ascii"), keep_blank_values=True)
        until = datetime.fromisoformat(tokens["s"][0]) if "s" in tokens else None
        of = tokens.get("l", [""])[0]
        return cls(tuple(tokens.get("p", ())), "r" in tokens, None if until is None else _in_utc(until), of)

    def encode(self) -> str:
        tokens = [("p", value) for value in self.position]
        if self.backward:
            tokens.append(("r", "1"))
        if self.synced_until is not None:
            tokens.append(("s", self.synced_until.isoformat()))
        tokens.append(("l", self.of))
        return b64encode(urlencode(tokens).encode()).decode()


class Pages(CursorPagination):
    """Newest first, or by `ordering`. Ids are UUIDv7: they sort by the time of their creation.

    A list of rows that have `updated_at` (see tenants/changes.py) answers `synced_until`, the same on all of its pages:
    what changes while a client turns them will be in the list of what was `updated_after` then.
    """

    page_size_query_param = "page_size"
    max_page_size = 200
    cursor_query_description = "Of `next` or `previous`, as it is."
    ordering_query_param = "ordering"
    #: The fields behind each name: all ascend or all descend, and the last one is unique.
    orderings: ClassVar[dict[str, tuple[str, ...]]] = {
        "created_at": ("id",),
        "-created_at": ("-id",),
        "updated_at": ("updated_at", "id"),
        "-updated_at": ("-updated_at", "-id"),
    }
    ordering = "-created_at"
    #: Whether rows have `updated_at`. If not, `ordering` is a field, and the only one.
    has_changes = True

    def get_page_size(self, request: Request) -> int:
        """Raises ValidationError for a size that is no number from 1 to `max_page_size`. DRF would take its default."""
        asked = request.query_params.get(self.page_size_query_param)
        if asked is None:
            return int(self.page_size or 0)
        if not SIZE.fullmatch(asked) or int(asked) > self.max_page_size:
            raise ValidationError({self.page_size_query_param: [f"Give a number from 1 to {self.max_page_size}."]})
        return int(asked)

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        self._base_url = request.build_absolute_uri()
        self._fields = self._ordering_fields(request)
        self._cursor = self._sent_cursor(request)
        if self.has_changes:
            # Before the list's own query, which must not be the older of the two.
            until = self._cursor.synced_until or synced_until() or _updated_after(request)
            self._cursor = self._cursor._replace(synced_until=until)
        size = self.get_page_size(request)
        rows = list(self._query(queryset)[: size + 1])
        self._is_more, self._page = len(rows) > size, rows[:size]
        if self._cursor.backward:
            self._page.reverse()
        return self._page

    def _ordering_fields(self, request: Request) -> tuple[str, ...]:
        if not self.has_changes:
            return (self.ordering,)
        name = request.query_params.get(self.ordering_query_param, self.ordering)
        if name not in self.orderings:
            raise ValidationError({self.ordering_query_param: [f"Order by one of {', '.join(self.orderings)}."]})
        return self.orderings[name]

    def _sent_cursor(self, request: Request) -> Cursor:
        text = request.query_params.get(self.cursor_query_param)
        of = self._digest(request)
        if text is None:
            return Cursor(of=of)
        try:
            cursor = Cursor.decode(text)
        except (ValueError, OverflowError):
            raise _bad_cursor() from None
        is_incomplete = self.has_changes and cursor.synced_until is None
        if cursor.of != of or is_incomplete or len(cursor.position) not in (0, len(self._fields)):
            raise _bad_cursor()
        return cursor

    def _digest(self, request: Request) -> str:
        """Of what makes one list another: its address, filters and ordering. A page's size may change on the way."""
        turned = (self.cursor_query_param, self.page_size_query_param)
        chosen = sorted((name, value) for name, value in _parameters(request) if name not in turned)
        return hashlib.sha256(f"{request.path}?{urlencode(chosen)}".encode()).hexdigest()[:16]

    def _query(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """The rows after the cursor, in the order of the page, or backward."""
        fields = [_opposite(field) for field in self._fields] if self._cursor.backward else self._fields
        try:
            position = [
                _value(rows.model, field.lstrip("-"), text)
                for field, text in zip(fields, self._cursor.position, strict=False)
            ]
        except (DjangoValidationError, ValueError, OverflowError):
            raise _bad_cursor() from None
        ordered = rows.order_by(*fields)
        return ordered.filter(_beyond(fields, position)) if position else ordered

    def get_next_link(self) -> str | None:
        is_next = bool(self._cursor.position) if self._cursor.backward else self._is_more
        return self._link(self._page[-1:], backward=False) if is_next else None

    def get_previous_link(self) -> str | None:
        is_previous = self._is_more if self._cursor.backward else bool(self._cursor.position)
        return self._link(self._page[:1], backward=True) if is_previous else None

    def _link(self, rows: list[Any], *, backward: bool) -> str:
        """Beyond the one row. Beyond a page without rows there is the first or the last page of the list."""
        position = tuple(str(getattr(row, field.lstrip("-"))) for row in rows for field in self._fields)
        cursor = self._cursor._replace(position=position, backward=backward)
        return replace_query_param(self._base_url, self.cursor_query_param, cursor.encode())

    def get_paginated_response(self, data: Any) -> Response:
        links = {"next": self.get_next_link(), "previous": self.get_previous_link()}
        until = {"synced_until": self._cursor.synced_until} if self.has_changes else {}
        # Weak: `synced_until` moves on while the list stays what it was. A client may go on with the older one.
        shown = JSONRenderer().render([data, *map(bool, links.values())])
        etag = f'W/"{hashlib.sha256(shown).hexdigest()[:32]}"'
        return Response({**links, **until, "results": data}, headers={"ETag": etag})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = super().get_paginated_response_schema(schema)
        for name in ("next", "previous"):
            page["properties"][name]["example"] = EXAMPLE
        if self.has_changes:
            page["properties"]["synced_until"] = {
                "type": "string",
                "format": "date-time",
                "description": "What changes later than this page shows it will be in the list that has this as its "
                "`updated_after`. It is the same on all pages that follow from one.",
            }
            page["required"] = [*page["required"], "synced_until"]
        return page

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        if self.has_changes:
            names = {"type": "string", "enum": list(self.orderings), "default": self.ordering}
            description = "By creation or by the last change; `-` is newest first."
            place = {"name": self.ordering_query_param, "in": "query", "required": False}
            parameters.append({**place, "description": description, "schema": names})
        return parameters


def _parameters(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name, values in request.query_params.lists() for value in values]


def _bad_cursor() -> ValidationError:
    return ValidationError({"cursor": [BAD_CURSOR]})


def _updated_after(request: Request) -> datetime:
    """While nobody knows up to when a client is in step: where it was."""
    with suppress(ValueError, OverflowError):
        if asked := parse_datetime(request.query_params.get("updated_after", "")):
            return _in_utc(asked)
    return EPOCH


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone.")
    return time.astimezone(UTC)


def _opposite(field: str) -> str:
    return field.removeprefix("-") if field.startswith("-") else f"-{field}"


def _value(model: type[Model], name: str, text: str) -> Any:
    value = model._meta.get_field(name).to_python(text)  # type: ignore[union-attr]  # it is a column
    return _in_utc(value) if isinstance(value, datetime) else value


def _beyond(fields: list[str] | tuple[str, ...], position: list[Any]) -> Q:
    """Rows after the one of that position: those that are greater in the first field, or equal there and so on."""
    lookup = "lt" if fields[0].startswith("-") else "gt"
    *first, last = zip((field.lstrip("-") for field in fields), position, strict=True)
    beyond = Q(**{f"{last[0]}__{lookup}": last[1]})
    for name, value in reversed(first):
        # The first condition is what an index serves.
        beyond = Q(**{f"{name}__{lookup}e": value}) & (Q(**{f"{name}__{lookup}": value}) | beyond)
    return beyond

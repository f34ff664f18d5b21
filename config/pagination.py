from rest_framework.pagination import CursorPagination


class Pages(CursorPagination):
    """Newest first. Ids are UUIDv7: they sort by time and, other than times, are never equal."""

    ordering = "-id"

"""What may be asked of the admin: lists by what their own filters offer, and objects by ids that they can have."""

from collections.abc import Iterator
from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError
from django.db.models import QuerySet

# Of Django's filters, and of its hierarchy of dates
OF_FILTERS = ("", "__exact", "__isnull", "__isempty", "__gte", "__lt")
OF_DATES = ("__year", "__month", "__day")
# PostgreSQL's text has none.
NUL = "\0"


class OfferedLists(ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """What the site adds to each admin class, our own and those of libraries.

    Django lets the address of a list filter by any column, and by those of related rows. Whoever may see accounts could
    guess a hash or a key by that, letter by letter.
    """

    # The site has no such page.
    view_on_site = False

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """Whether a filter offers it. Django answers 400 to any other."""
        return lookup in _offered(self, request)

    def to_field_allowed(self, request: Any, to_field: str) -> bool:
        """As Django's, which fails for the name of a relation that comes from elsewhere."""
        return to_field in {field.name for field in self.opts.fields} and super().to_field_allowed(request, to_field)

    def get_object(self, request: Any, object_id: str, from_field: str | None = None) -> Any:
        """As Django's. None has an id that PostgreSQL can't read."""
        return None if NUL in object_id else super().get_object(request, object_id, from_field)

    def get_search_results(self, request: Any, queryset: QuerySet[Any], search_term: str) -> Any:
        """As Django's. Nothing is found by what PostgreSQL can't read."""
        if NUL in search_term:
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)

    def response_action(self, request: Any, *arguments: Any, **options: Any) -> Any:
        """As Django's. Raises BadRequest if it shall act on something that can't be an id."""
        for object_id in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if not _can_be_id(self, object_id):
                raise BadRequest("No object can have such an id.")
        return super().response_action(request, *arguments, **options)

    def log_deletions(self, request: Any, queryset: QuerySet[Any]) -> list[Any]:
        """As Django's, one by one: records that are saved all at once don't reach the log of tenants/audit.py."""
        entries: list[Any] = []
        for deleted in queryset:
            entries += super().log_deletions(request, [deleted])  # type: ignore[arg-type]  # it iterates
        return entries

    def get_changelist_instance(self, request: Any) -> Any:
        """As Django's. A value that its filters can't read leads back to the list."""
        try:
            return super().get_changelist_instance(request)
        except (ValueError, OverflowError, DataError) as error:
            raise IncorrectLookupParameters(str(error)) from error


def _can_be_id(admin: Any, text: str) -> bool:
    try:
        admin.opts.pk.to_python(text)
    except ValidationError:
        return False
    return NUL not in text


def _offered(admin: Any, request: Any) -> Iterator[str]:
    for named in admin.get_list_filter(request):
        path = named[0] if isinstance(named, (list, tuple)) else named
        if isinstance(path, str):
            yield from (f"{path}{ending}" for ending in OF_FILTERS)
            yield from _of_relation(admin, path)
        else:
            yield path.parameter_name  # a class that offers one
    if admin.date_hierarchy:
        yield from (f"{admin.date_hierarchy}{ending}" for ending in OF_DATES)


def _of_relation(admin: Any, path: str) -> Iterator[str]:
    field: Any = get_fields_from_path(admin.model, path)[-1]
    if field.is_relation:
        yield f"{path}__{field.target_field.name}__exact"

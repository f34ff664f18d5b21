"""Query parameters: each view takes those that it knows, once each, with a value."""

from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django_filters import MultipleChoiceFilter
from drf_spectacular.views import SpectacularSwaggerSplitView

from config.problems import render
from config.schema_view import SchemaView


class QueryMiddleware:
    """Answers 400 to a query that its view would ignore or read in a way that its client doesn't mean."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """Before the view, so that no view can forget it. Views that are not DRF's are the admin's."""
        if not request.GET or request.method == "OPTIONS" or not _is_offered(view, str(request.method)):
            return None
        errors = list(_errors(request, known_parameters(view, str(request.method))))
        if not errors:
            return None
        return render(400, code="invalid", detail="The request is not valid; see `errors`.", errors=errors)


def _errors(request: HttpRequest, known: dict[str, bool]) -> Iterator[dict[str, str]]:
    for name, values in request.GET.lists():
        if name not in known:
            there_are = f"there are: {', '.join(known)}" if known else "there are none here"
            yield _error(name, "unknown_parameter", f"There is no such parameter; {there_are}.")
        elif len(values) > 1 and not known[name]:
            yield _error(name, "repeated", "Give this parameter once.")
        elif not all(values):
            yield _error(name, "blank", "Give a value, or leave the parameter out.")


def _error(name: str, code: str, detail: str) -> dict[str, str]:
    return {"detail": detail, "code": code, "parameter": name}


def _is_offered(view: Any, method: str) -> bool:
    """Whether a view of DRF's has this method. If not, it answers 405, whatever the query."""
    name = "get" if method == "HEAD" else method.lower()
    return name in view.actions if hasattr(view, "actions") else hasattr(getattr(view, "cls", None), name)


def known_parameters(view: Any, method: str) -> dict[str, bool]:
    """The names of the parameters that a view takes, and whether each may come more than once."""
    if view.cls is SchemaView:
        return {"format": False}
    if view.cls is SpectacularSwaggerSplitView:
        return {"script": False}  # of its own page
    action = getattr(view, "actions", {}).get("get" if method == "HEAD" else method.lower())
    if action != "list":
        return {}
    known = {name: isinstance(kind, MultipleChoiceFilter) for name, kind in _filters(view.cls).items()}
    pages = view.cls.pagination_class
    parameters = [] if pages is None else pages().get_schema_operation_parameters(view)
    return known | {parameter["name"]: False for parameter in parameters}


def _filters(view_class: Any) -> dict[str, Any]:
    filterset = getattr(view_class, "filterset_class", None)
    return {} if filterset is None else dict(filterset.base_filters)

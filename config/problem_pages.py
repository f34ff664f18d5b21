"""`/problems/` and `/problems/<code>`, on every host: also on that of a tenant that is not served."""

from collections.abc import Callable, Iterable

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from config import problems
from config.codes import REGISTRY, Problem

PREFIX = "/problems/"


class ProblemPagesMiddleware:
    """It stands before the tenants' middleware, and asks neither for the host nor the database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(PREFIX):
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return _not_allowed(request)
        code = request.path_info.removeprefix(PREFIX)
        if code == "":
            return _page("Problems", REGISTRY.values())
        if code in REGISTRY:
            return _page(REGISTRY[code].title, [REGISTRY[code]])
        return problems.render(404, code="not_found", detail="No problem has this code; /problems/ lists all.")


def _page(title: str, shown: Iterable[Problem]) -> HttpResponse:
    return HttpResponse(render_to_string("problems.html", {"title": title, "problems": list(shown)}))


def _not_allowed(request: HttpRequest) -> HttpResponse:
    refusal = problems.render(405, code="method_not_allowed", detail=f'Method "{request.method}" not allowed.')
    refusal.headers["Allow"] = "GET, HEAD"
    return refusal

"""Every error of the API as application/problem+json (RFC 9457).

`errors` is a flat list of what is wrong, and where: `pointer` is a JSON pointer into the body, as a fragment
(`#/lines/0/quantity`); `parameter` is the name of a query parameter. config/codes.py explains each
`code`.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import APIException, UnsupportedMediaType
from rest_framework.permissions import SAFE_METHODS
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from config.codes import REGISTRY
from config.negotiation import ProblemRenderer
from tenants.middleware import HEADER, has_answer
from tenants.outage import is_away, is_busy

logger = logging.getLogger(__name__)

MEDIA_TYPE = ProblemRenderer.media_type
NO_FIELD = "non_field_errors"
# An answer names so many of them. A body of 1 MiB may have a hundred thousand.
MAX_ERRORS = 100
#: Instead of what Django and DRF say, which names models and no remedy
NOTHING_HERE = "There is nothing at this address, or you may not see it."
NO_JSON = "The body's type is {type}, and the API takes JSON: send `Content-Type: application/json`."


class DatabaseAway(APIException):
    """The database can't be reached, or was lost on the way: what the request had begun is rolled back."""

    status_code = 503
    default_code = "database_away"
    default_detail = "The service can't reach its database; try again in a moment."
    wait = 2  # becomes Retry-After


class DatabaseBusy(APIException):
    """A statement reached a limit of REQUEST_STATEMENT_SECONDS or REQUEST_LOCK_SECONDS, or a deadlock ended it."""

    status_code = 503
    default_code = "database_busy"
    default_detail = "The database is busy; try again in a moment."
    wait = 2


# What views and middleware raise


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: a problem response, or None for what is no client's mistake."""
    outage = _outage(exc)
    if outage is not None:
        logger.warning("%s: %r", outage.default_code, exc)
        exc = outage
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    if isinstance(exc, UnsupportedMediaType):
        exc = UnsupportedMediaType("", NO_JSON.format(type=context["request"].content_type or "missing"))
    response.data = _described(response, exc, context["request"].method)
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        response.headers.setdefault("Retry-After", "1")
    _render_as_problem(response, context["request"])
    return response


def _outage(error: BaseException) -> DatabaseAway | DatabaseBusy | None:
    if is_away(error):
        return DatabaseAway()
    return DatabaseBusy() if is_busy(error) else None


def _described(response: Response, exc: Exception, method: str) -> dict[str, Any]:
    status, data = response.status_code, response.data
    if isinstance(exc, Http404):
        return problem(status, code="not_found", detail=NOTHING_HERE)
    if isinstance(exc, APIException) and isinstance(exc.detail, str):
        return problem(status, code=exc.detail.code or exc.default_code, detail=exc.detail)
    if not isinstance(exc, APIException):  # Django's PermissionDenied
        return problem(status, code=data["detail"].code, detail=data["detail"])
    place = "parameter" if method in SAFE_METHODS else "pointer"
    errors = [_entry(path, detail, place) for path, detail in islice(_flat(data), MAX_ERRORS)]
    return problem(status, code=exc.default_code, detail="The request is not valid; see `errors`.", errors=errors)


def _flat(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """DRF's nested details, each with its path."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _flat(value, path if key == NO_FIELD else (*path, str(key)))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _flat(value, path if isinstance(value, str) else (*path, str(index)))
    else:
        yield path, data


def _entry(path: tuple[str, ...], detail: Any, place: str) -> dict[str, str]:
    escaped = [key.replace("~", "~0").replace("/", "~1") for key in path]
    where = ".".join(path) if place == "parameter" else "/".join(["#", *escaped])
    return {"detail": str(detail), "code": getattr(detail, "code", None) or "invalid", place: where}


def _render_as_problem(response: Response, request: Any) -> None:
    """Whatever renderer the client negotiated: a page of the documentation can fail, too."""
    for target in (request, response):
        target.accepted_renderer, target.accepted_media_type = ProblemRenderer(), MEDIA_TYPE
    response.renderer_context = {}  # type: ignore[attr-defined]


def problem(status: int, *, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """The body of an answer. A code that is not registered has the type that RFC 9457 gives to a bare status."""
    known = REGISTRY.get(code)
    body = {
        "type": known.type if known else "about:blank",
        "title": known.title if known else HTTPStatus(status).phrase,
        "status": status,
        "detail": str(detail),
        "code": code,
    }
    return body if errors is None else {**body, "errors": errors}


# What Django itself answers


def render(status: int, *, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> JsonResponse:
    body = problem(status, code=code, detail=detail, errors=errors)
    return JsonResponse(body, status=status, content_type=MEDIA_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return render(400, code="bad_request", detail="The request can't be understood.")


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    return render(403, code="permission_denied", detail=str(exception) or "You may not do that.")


def csrf_failure(request: HttpRequest, reason: str = "") -> JsonResponse:
    return render(403, code="csrf_failed", detail=f"{reason} Reload the page and send the form again.".strip())


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return render(404, code="not_found", detail=f"There is nothing at {request.path_info}.{_hint(request)}")


def _hint(request: HttpRequest) -> str:
    path = request.path_info
    if not path.endswith("/"):
        return " Addresses of the API end in a slash."
    on_public_host = getattr(request, "urlconf", None) == settings.PUBLIC_SCHEMA_URLCONF
    if on_public_host and has_answer(path, urlconf=settings.ROOT_URLCONF):
        return f" It is an organisation's: name that by the header `{HEADER}: <slug>`, or ask its own host."
    return ""


@csrf_exempt
def nowhere(request: HttpRequest) -> JsonResponse:
    """The last route of each host, so that DEBUG doesn't answer with its page about routes."""
    return not_found(request, Http404())


def server_error(request: HttpRequest) -> JsonResponse:
    error = sys.exc_info()[1]
    outage = _outage(error) if error is not None else None
    if outage is not None:
        response = render(503, code=outage.default_code, detail=outage.default_detail)
        response.headers["Retry-After"] = str(outage.wait)
        return response
    return render(500, code="server_error", detail="Something went wrong on our side.")

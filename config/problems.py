"""Every error of the API as application/problem+json (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, JsonResponse
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

MEDIA_TYPE = "application/problem+json"


class ProblemRenderer(JSONRenderer):
    media_type = MEDIA_TYPE


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: a problem response, or None for what is no client's mistake."""
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    code = exc.default_code if isinstance(exc, APIException) else "error"
    response.data = problem(response.status_code, code=code, errors=response.data)
    response.content_type = MEDIA_TYPE
    return response


def problem(status: int, *, code: str, errors: Any = None, detail: str = "") -> dict[str, Any]:
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    if isinstance(errors, Mapping) and set(errors) == {"detail"}:
        body["detail"] = str(errors["detail"])
    elif errors is not None:
        body["detail"] = detail or "The request is not valid; see `errors`."
        body["errors"] = errors
    elif detail:
        body["detail"] = detail
    return body


def render(request: HttpRequest, status: int, *, code: str, detail: str) -> JsonResponse:
    return JsonResponse(problem(status, code=code, detail=detail), status=status, content_type=MEDIA_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return render(request, 400, code="bad_request", detail="The request can't be understood.")


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    return render(request, 403, code="permission_denied", detail=str(exception) or "You may not do that.")


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return render(request, 404, code="not_found", detail=f"There is nothing at {request.path}.")


def server_error(request: HttpRequest) -> JsonResponse:
    return render(request, 500, code="server_error", detail="Something went wrong on our side.")

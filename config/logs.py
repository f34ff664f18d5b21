"""Structured logs: JSON when not on a terminal, with tenant, request id and job id on every line."""

import logging
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from limits.addresses import client_address
from tenants.binding import bound_tenant
from tenants.log_lines import formatter

logger = logging.getLogger("tenantry.requests")

#: What lines of requests and log-ins, and of what staff do, tell beside their words
TOLD = [
    "method", "path", "status", "address", "account", "user", "tenant", "limit", "milliseconds", "object", "change",
]  # fmt: skip
#: Of a request that was refused, or has to wait
REFUSALS = (401, 403, 429, 503)


def config(*, json: bool | None, level: str) -> dict[str, Any]:
    """The LOGGING setting; `json` None means: JSON unless stderr is a terminal."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": {"()": formatter, "json": json, "told": TOLD}},
        "filters": {"unforeseen": {"()": lambda: is_unforeseen}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django.server": {"propagate": True},
            # Of a 4xx the line of the request tells more.
            "django.request": {"level": "ERROR", "filters": ["unforeseen"]},
            "httpx": {"level": "WARNING"},
            # That a task was received. Its end is told, with all that is known of it.
            "celery.worker.strategy": {"level": "WARNING"},
        },
    }


def is_unforeseen(record: logging.LogRecord) -> bool:
    """Whether a line of Django's tells of a fault. A 503 of ours is an answer like others: its request has its line."""
    return getattr(record, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE or record.exc_info is not None


class RequestLogMiddleware:
    """Binds a request id (the client's `X-Request-ID` if it is a sane one) to the logs, the jobs and the response.

    Writes a line for each request: from which address, by which user of which organisation, and how long it took. One
    that was refused, or had to wait, is a warning.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        request_id = _sane(request.headers.get("X-Request-ID", "")) or uuid.uuid4().hex
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            told = _told(request, response)
            told["milliseconds"] = round(1000 * (time.perf_counter() - began))
            logger.log(logging.WARNING if response.status_code in REFUSALS else logging.INFO, "request", extra=told)
        return response


def _told(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    exceeded = [one.policy for one in getattr(request, "counted", []) if one.is_exceeded]
    told = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "address": client_address(request),
        "tenant": getattr(bound_tenant(), "slug", None),
        "user": _user_of(request, response),
        "limit": ", ".join(exceeded),
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def _user_of(request: HttpRequest, response: HttpResponse) -> str | None:
    """The user's id, if somebody has asked for it already. It is no time for a query now."""
    user = getattr(request, "user", None)
    if not isinstance(user, SimpleLazyObject):
        return None if user is None or user.pk is None else str(user.pk)
    # Nobody but the admin reads a session; and one that could not be read must not be tried again.
    is_read = request.session.accessed and response.status_code < 500
    return request.session.get(SESSION_KEY) if is_read else None


def _sane(request_id: str) -> str:
    allowed = request_id.isascii() and request_id.replace("-", "").isalnum()
    return request_id if allowed and len(request_id) <= 64 else ""

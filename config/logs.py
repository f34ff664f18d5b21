"""Structured logs: JSON when not on a terminal, with tenant, request id and job id on every line."""

import logging
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("tenantry.requests")


def config(*, json: bool | None, level: str) -> dict[str, Any]:
    """The LOGGING setting; `json` None means: JSON unless stderr is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else _console()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [
                    structlog.contextvars.merge_contextvars,
                    structlog.stdlib.add_log_level,
                    structlog.stdlib.add_logger_name,
                    structlog.stdlib.ExtraAdder(allow=["status", "method", "path", "milliseconds"]),
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                ],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *([structlog.processors.format_exc_info] if as_json else []),
                    renderer,
                ],
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django.server": {"propagate": True},
            "httpx": {"level": "WARNING"},
            # That a task was received. Its end is told, with all that is known of it.
            "celery.worker.strategy": {"level": "WARNING"},
        },
    }


def _console() -> structlog.dev.ConsoleRenderer:
    """Colours are for people at a terminal who have not asked for none (https://no-color.org)."""
    in_colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return structlog.dev.ConsoleRenderer(colors=in_colour, exception_formatter=structlog.dev.plain_traceback)


class RequestLogMiddleware:
    """Binds a request id (the client's `X-Request-ID` if it is a sane one) to the logs, the jobs and the response."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = _sane(request.headers.get("X-Request-ID", "")) or uuid.uuid4().hex
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            logger.info(
                "request", extra={"method": request.method, "path": request.path, "status": response.status_code}
            )
        return response


def _sane(request_id: str) -> str:
    allowed = request_id.isascii() and request_id.replace("-", "").isalnum()
    return request_id if allowed and len(request_id) <= 64 else ""

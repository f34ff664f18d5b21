"""`/livez` and `/readyz`, on every host: load balancers know no tenant."""

import threading
import time
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django_tenants.utils import schema_context

from jobs.health import readiness

#: For so many seconds an answer of `/readyz` is given again: anybody may ask.
KEPT_SECONDS = 1.0


class HealthMiddleware:
    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponse],
        *,
        look: Callable[[], dict[str, Any]] = readiness,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self.get_response = get_response
        self._look = look
        self._kept_seconds = kept_seconds
        self._looking = threading.Lock()
        self._report: dict[str, Any] = {}
        self._asked_at = -kept_seconds

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/livez":
            return JsonResponse({"status": "ok"})
        if request.path == "/readyz":
            report = self._readiness()
            return JsonResponse(report, status=503 if report["status"] == "unavailable" else 200)
        return self.get_response(request)

    def _readiness(self) -> dict[str, Any]:
        """One look at a time: while it waits for a database that is away, others get the answer before."""
        if self._is_old() and self._looking.acquire(blocking=not self._report):
            try:
                # Whoever had the lock before may have looked just now.
                if self._is_old():
                    self._look_anew()
            finally:
                self._looking.release()
        return self._report

    def _is_old(self) -> bool:
        return time.monotonic() >= self._asked_at + self._kept_seconds

    def _look_anew(self) -> None:
        with schema_context("public"):
            self._report = self._look()
        self._asked_at = time.monotonic()

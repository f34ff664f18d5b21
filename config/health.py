"""`/livez` and `/readyz`, on every host: load balancers know no tenant."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django_tenants.utils import schema_context

from jobs.health import readiness


class HealthMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/livez":
            return JsonResponse({"status": "ok"})
        if request.path == "/readyz":
            with schema_context("public"):
                report = readiness()
            return JsonResponse(report, status=503 if report["status"] == "unavailable" else 200)
        return self.get_response(request)

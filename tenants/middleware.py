from collections.abc import Callable

from django.conf import settings
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.renderers import JSONRenderer
from rest_framework.settings import api_settings
from structlog.contextvars import bound_contextvars

from tenants.models import Tenant


class TenantUnavailable(APIException):
    status_code = 503
    default_code = "tenant_unavailable"
    default_detail = "This organisation is not ready yet."


class TenantMiddleware:
    """Binds the connection to the tenant that the Host header names, for this request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        connection.set_schema_to_public()
        host = request.get_host().partition(":")[0].lower()
        if host in settings.PUBLIC_HOSTS:
            request.urlconf = settings.PUBLIC_SCHEMA_URLCONF
            return self.get_response(request)
        try:
            tenant = serving_tenant(host)
        except APIException as refusal:
            return _rendered(refusal, request)
        connection.set_tenant(tenant)
        with bound_contextvars(tenant=tenant.slug):
            return self.get_response(request)


def serving_tenant(host: str) -> Tenant:
    """The active tenant of a host; else Http404, PermissionDenied or TenantUnavailable."""
    tenant = Tenant.objects.filter(domains__domain=host).first()
    if tenant is None:
        raise Http404(f"No organisation has the host {host}")
    if tenant.status in (Tenant.Status.SUSPENDED, Tenant.Status.DELETING):
        raise PermissionDenied(f"This organisation is {tenant.status}.")
    if tenant.status != Tenant.Status.ACTIVE:
        raise TenantUnavailable()
    return tenant


def _rendered(refusal: APIException, request: HttpRequest) -> HttpResponse:
    """What DRF would answer, had a view raised it: middleware runs outside of DRF."""
    response = api_settings.EXCEPTION_HANDLER(refusal, {"request": request, "view": None})
    response.accepted_renderer = JSONRenderer()
    response.accepted_media_type = JSONRenderer.media_type
    response.renderer_context = {}
    return response.render()

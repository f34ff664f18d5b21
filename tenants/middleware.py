"""From the Host header to the tenant's schema."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import Error
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, NotFound, ParseError, PermissionDenied
from rest_framework.response import Response
from rest_framework.settings import api_settings
from structlog.contextvars import bound_contextvars

from tenants.binding import bind_to_public
from tenants.connection import connection, fetch_one, retry_on_broken_connection
from tenants.models import Tenant
from tenants.postgresql.internals import skip_health_check

# Seconds after which a client may ask again for a tenant that is being provisioned, or that waits for staff
RETRY_SECONDS = 2
FAILED_RETRY_SECONDS = 600
FIELDS = [field.attname for field in Tenant._meta.concrete_fields]
FIND = f"""
    SELECT {", ".join(f"tenant.{field}" for field in FIELDS)}
    FROM public.tenants_domain domain JOIN public.tenants_tenant tenant ON tenant.id = domain.tenant_id
    WHERE domain.domain = %s
"""


class Unavailable(APIException):
    """The tenant exists, and is not served. `wait` becomes the Retry-After header, in seconds."""

    status_code = 503
    wait: int


class Provisioning(Unavailable):
    """The tenant's schema is being made."""

    default_code = "tenant_provisioning"
    default_detail = "This organisation is being set up; try again in a moment."
    wait = RETRY_SECONDS


class Failed(Unavailable):
    """Making the tenant's schema failed, and staff has to look at it."""

    default_code = "tenant_failed"
    default_detail = "This organisation could not be set up; ask the platform's staff."
    wait = FAILED_RETRY_SECONDS


class TenantMiddleware:
    """Bind the context to the tenant that the Host header names, until the response is closed.

    The public host stays in `public` and gets PUBLIC_SCHEMA_URLCONF. A host without an active tenant gets a problem
    response, and no view runs.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        bind_to_public()
        try:
            tenant = tenant_of(request)
        except (APIException, Error) as error:
            response = _rendered(error, request)
            if response is None:
                raise
            return response
        if tenant is None:
            request.urlconf = settings.PUBLIC_SCHEMA_URLCONF
            return self.get_response(request)
        connection.set_tenant(tenant)
        with bound_contextvars(tenant=tenant.slug):
            return self.get_response(request)


def tenant_of(request: HttpRequest) -> Tenant | None:
    """Find the active tenant of the request's host. Returns None for the public host.

    Raises ParseError for a bad host, NotFound for an unknown one, and PermissionDenied, Provisioning or Failed for a
    tenant that is not active.
    """
    host = _host(request)
    if host in settings.PUBLIC_HOSTS:
        return None
    skip_health_check(connection)
    tenant = retry_on_broken_connection(lambda: _find(host))
    if tenant is None:
        raise NotFound(f"No organisation has the host {host}.", code="tenant_not_found")
    match tenant.status:
        case Tenant.Status.ACTIVE:
            return tenant
        case Tenant.Status.PROVISIONING:
            raise Provisioning
        case Tenant.Status.FAILED:
            raise Failed
        case _:
            raise PermissionDenied(f"This organisation is {tenant.status}.", code=f"tenant_{tenant.status}")


def _find(host: str) -> Tenant | None:
    row = fetch_one(FIND, [host])
    return None if row is None else Tenant.from_db(connection.alias, FIELDS, row)


def _host(request: HttpRequest) -> str:
    try:
        host = request.get_host()
    except DisallowedHost:
        raise ParseError("The Host header names no host of this site.", code="bad_host") from None
    return host.partition(":")[0].lower().rstrip(".")


def _rendered(error: Exception, request: HttpRequest) -> HttpResponse | None:
    """The response that DRF makes of an exception in a view, if it makes one. Middleware runs outside of DRF."""
    handler: Any = api_settings.EXCEPTION_HANDLER
    response: Response | None = handler(error, {"request": request, "view": None})
    return None if response is None else response.render()
